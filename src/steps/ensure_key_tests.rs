//! Tables of what follows from a key, a version of it, a deleted key and no key.

use std::collections::BTreeMap;

use time::Duration;

use super::ensure_key::{Change, Seen};
use super::spec::EnsureKey;
use super::{Decision, Step, testing};
use crate::azure::keys::{self, KeyInfo, RotationPolicy};
use crate::domain::duration::IsoDuration;
use crate::domain::facts::Facts;
use crate::domain::request::{KeyOperation, KeyType, Rotation};

fn step(every: Option<&str>) -> EnsureKey {
    let duration = |text| IsoDuration::parse(text).expect("a duration");
    EnsureKey {
        store: testing::store(),
        name: "k".into(),
        key_type: KeyType::Rsa,
        size: 4096,
        operations: vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey],
        version: None,
        expires_after: None,
        never_expires: false,
        rotation: every.map(|text| Rotation { every: duration(text), notify_before_expiry: None }),
        access_timeout: duration("PT20M"),
        tags: BTreeMap::new(),
    }
}

fn key() -> KeyInfo {
    KeyInfo {
        id: testing::key_id(),
        kty: keys::KeyType::Rsa,
        size_bits: Some(4096),
        curve: None,
        operations: vec![keys::KeyOperation::UnwrapKey, keys::KeyOperation::WrapKey, keys::KeyOperation::Sign],
        enabled: true,
        expires: None,
        not_before: None,
        tags: BTreeMap::new(),
        request_id: None,
    }
}

fn found(key: KeyInfo, policy: RotationPolicy) -> Seen {
    Seen::Found { key: Box::new(key), policy, at: testing::NOW }
}

fn with(change: impl FnOnce(&mut KeyInfo)) -> Seen {
    let mut key = key();
    change(&mut key);
    found(key, RotationPolicy::default())
}

#[test]
fn a_key_is_created_once_and_never_replaced() {
    let second = Duration::SECOND;
    let table = [
        (Seen::Absent, "act"),
        (Seen::Deleted, "refuse key-soft-deleted"),
        (with(|_| {}), "satisfied"),
        (with(|k| k.kty = keys::KeyType::RsaHsm), "refuse key-mismatch"),
        (with(|k| k.size_bits = Some(2048)), "refuse key-mismatch"),
        (with(|k| k.size_bits = None), "refuse key-mismatch"),
        (with(|k| k.operations = vec![keys::KeyOperation::WrapKey]), "refuse key-mismatch"),
        (with(|k| k.enabled = false), "refuse key-disabled"),
        (with(|k| k.expires = Some(testing::NOW)), "refuse key-disabled"),
        (with(|k| k.expires = Some(testing::NOW + second)), "satisfied"),
        (with(|k| k.not_before = Some(testing::NOW)), "satisfied"),
        (with(|k| k.not_before = Some(testing::NOW + second)), "refuse key-disabled"),
    ];
    for (seen, want) in table {
        assert_eq!(testing::told(step(None).decide(&seen, &Facts::default())), want, "{seen:?}");
    }
}

#[test]
fn a_rotation_policy_is_set_where_it_differs_and_keeps_what_else_is_in_it() {
    let rotate = |every: &str| RotationPolicy { rotate_after_create: Some(every.into()), ..Default::default() };
    let decide = |every, policy| step(every).decide(&found(key(), policy), &Facts::default());
    assert_eq!(decide(None, rotate("P30D")), Decision::Satisfied);
    assert_eq!(decide(Some("P1Y"), rotate("P1Y")), Decision::Satisfied);
    assert_eq!(decide(Some("P7D"), rotate("P1W")), Decision::Satisfied);
    assert!(matches!(decide(Some("P1Y"), rotate("P365D")), Decision::Act(_)));
    let other = RotationPolicy {
        rotate_before_expiry: Some("P30D".into()),
        notify_before_expiry: Some("P10D".into()),
        expire_after: Some("P2Y".into()),
        ..Default::default()
    };
    let want = RotationPolicy { rotate_after_create: Some("P1Y".into()), rotate_before_expiry: None, ..other.clone() };
    assert_eq!(decide(Some("P1Y"), other), Decision::Act(Change::Rotate(Box::new(key()), want)));
}

#[test]
fn an_exact_version_is_judged_and_never_created() {
    let step = EnsureKey { version: Some(testing::VERSION.into()), ..step(None) };
    let table = [
        (Seen::Absent, "refuse key-version-not-found"),
        (Seen::Deleted, "refuse key-soft-deleted"),
        (with(|_| {}), "satisfied"),
        (with(|k| k.size_bits = Some(2048)), "refuse key-mismatch"),
        (with(|k| k.operations = vec![keys::KeyOperation::WrapKey]), "refuse key-mismatch"),
        (with(|k| k.enabled = false), "refuse key-disabled"),
        (with(|k| k.expires = Some(testing::NOW)), "refuse key-disabled"),
        (with(|k| k.not_before = Some(testing::NOW + Duration::SECOND)), "refuse key-disabled"),
    ];
    for (seen, want) in table {
        let decision = step.decide(&seen, &Facts::default());
        if let Decision::Refuse(failure) = &decision {
            let named = failure.message.contains(testing::VERSION) || seen == Seen::Deleted;
            assert!(named, "it names the version: {failure:?}");
        }
        assert_eq!(testing::told(decision), want, "{seen:?}");
    }
}

#[test]
fn whether_a_key_expires_has_to_be_as_it_is_asked_for() {
    let life = IsoDuration::parse("P1Y");
    let expiring = EnsureKey { expires_after: life.clone(), ..step(None) };
    let lasting = EnsureKey { never_expires: true, ..step(None) };
    let tomorrow = |k: &mut KeyInfo| k.expires = Some(testing::NOW + Duration::DAY);
    let table = [
        (&expiring, with(|_| {}), "refuse key-mismatch"),
        (&expiring, with(tomorrow), "satisfied"),
        (&lasting, with(|_| {}), "satisfied"),
        (&lasting, with(tomorrow), "refuse key-mismatch"),
        (&lasting, Seen::Absent, "act"),
    ];
    for (step, seen, want) in table {
        assert_eq!(testing::told(step.decide(&seen, &Facts::default())), want, "{seen:?}");
    }
}

#[test]
fn the_policy_holds_life_and_notice_too_where_they_are_asked_for() {
    let parse = |text| IsoDuration::parse(text);
    let rotation = Rotation { every: parse("P1Y").expect("a duration"), notify_before_expiry: parse("P30D") };
    let step = EnsureKey { rotation: Some(rotation), expires_after: parse("P2Y"), ..step(None) };
    let expiring = |policy| {
        let mut key = key();
        key.expires = Some(testing::NOW + Duration::DAY);
        found(key, policy)
    };
    let want = RotationPolicy {
        rotate_after_create: Some("P1Y".into()),
        rotate_before_expiry: None,
        notify_before_expiry: Some("P30D".into()),
        expire_after: Some("P2Y".into()),
    };
    assert_eq!(step.decide(&expiring(want.clone()), &Facts::default()), Decision::Satisfied);
    for other in [
        RotationPolicy::default(),
        RotationPolicy { rotate_after_create: None, rotate_before_expiry: Some("P10D".into()), ..want.clone() },
        RotationPolicy { notify_before_expiry: Some("P10D".into()), ..want.clone() },
        RotationPolicy { expire_after: None, ..want.clone() },
    ] {
        let Decision::Act(Change::Rotate(_, policy)) = step.decide(&expiring(other.clone()), &Facts::default()) else {
            panic!("{other:?} is not what is asked for");
        };
        assert_eq!(policy, want, "{other:?}");
    }
}

#[test]
fn a_misfit_is_told_before_a_policy_is_set() {
    let seen = with(|k| k.enabled = false);
    assert_eq!(testing::told(step(Some("P1Y")).decide(&seen, &Facts::default())), "refuse key-disabled");
}
