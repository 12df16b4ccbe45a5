//! The checks, the hold and the looks, on a world without providers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::arm::vault_model::Vault;
use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{Holder, Network, Zone};
use crate::keyvault::key_model::{Key, Version};
use crate::options::{Addresses, Options};
use crate::propagation::{Lag, Propagation};
use crate::state::World;

const PRINCIPAL: &str = "66666666-6666-4666-8666-666666666666";
const THING: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Thing/things/t1";

fn addresses() -> Addresses {
    Addresses { suffix: "localhost".to_owned(), port: 8443 }
}

fn version(id: &str, material: &Arc<Material>, ops: &[&str]) -> Version {
    Version {
        id: id.to_owned(),
        material: material.clone(),
        ops: ops.iter().map(|o| (*o).to_owned()).collect(),
        enabled: true,
        nbf: None,
        exp: None,
        created: 0,
        updated: 0,
        tags: Map::new(),
    }
}

/// A vault `kv` in access-policy mode with the key `k` in one version `v1`.
fn world(permissions: Value) -> (World, Arc<Material>, OffsetDateTime) {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
    let options = Options {
        propagation: Propagation { key_look: Lag::seconds(5.0), ..Propagation::instant() },
        ..Options::default()
    };
    let mut w = World::new(&options, now);
    let material = Arc::new(Material::rsa(2048, false).expect("a key is made"));
    let all = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
    let key = Key {
        name: "k".to_owned(),
        versions: vec![version("v1", &material, &all)],
        rotation: None,
        visible_from: None,
    };
    let holder = Holder {
        zone: Zone::Vault,
        id: "/subscriptions/s/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv".to_owned(),
        name: "kv".to_owned(),
        location: "uksouth".to_owned(),
        sku: "standard".to_owned(),
        retention_days: 30,
        purge_protection: true,
        network: Network { acls: None, public_access: "Enabled".to_owned() },
        network_past: Vec::new(),
        visible_from: Some(now),
        dns_from: Some(now),
        keys: BTreeMap::from([("k".to_owned(), key)]),
        deleted_keys: BTreeMap::new(),
    };
    let vault = Vault {
        holder,
        tags: Map::new(),
        system: crate::arm::system_data::SystemData::of("test", now),
        tenant: options.tenant_id.clone(),
        rbac: false,
        access_policies: vec![json!({ "objectId": PRINCIPAL, "permissions": { "keys": permissions } })],
        deployment: false,
        disk_encryption: false,
        template_deployment: false,
    };
    w.vaults.insert("kv".to_owned(), vault);
    (w, material, now)
}

fn key_use() -> KeyUse {
    KeyUse::new(PRINCIPAL, "https://kv.vault.localhost:8443", "k", "")
}

fn vault(w: &mut World) -> &mut Vault {
    w.vaults.get_mut("kv").expect("the vault is there")
}

fn key(w: &mut World) -> &mut Key {
    vault(w).keys.get_mut("k").expect("the key is there")
}

/// What is asked of the key or changed in the world, and what is said to it.
type Row = (&'static str, fn(&mut World, &mut KeyUse), Result<(), Refusal>);

#[test]
fn each_thing_that_is_wrong_has_its_own_refusal() {
    let rows: &[Row] = &[
        ("nothing", |_, _| {}, Ok(())),
        ("another host", |_, u| u.vault_uri = "https://kv.example.com:8443".into(), Err(Refusal::BadUri)),
        ("plain HTTP", |_, u| u.vault_uri = "http://kv.vault.localhost:8443".into(), Err(Refusal::BadUri)),
        ("another port", |_, u| u.vault_uri = "https://kv.vault.localhost".into(), Err(Refusal::BadUri)),
        (
            "an HSM where none is taken",
            |_, u| (u.vault_uri, u.hsm) = ("https://h.managedhsm.localhost:8443/".into(), false),
            Err(Refusal::HsmNotTaken),
        ),
        ("no HSM", |_, u| u.vault_uri = "https://h.managedhsm.localhost:8443/".into(), Err(Refusal::VaultMissing)),
        ("no vault", |w, _| w.vaults.clear(), Err(Refusal::VaultMissing)),
        ("no purge protection", |w, _| vault(w).purge_protection = false, Err(Refusal::NotProtected)),
        ("90 days asked", |_, u| u.retention_days = Some(90), Err(Refusal::ShortRetention)),
        ("30 days asked", |_, u| u.retention_days = Some(30), Ok(())),
        ("another region", |_, u| u.region = Some("ukwest".into()), Err(Refusal::OtherRegion)),
        ("this region", |_, u| u.region = Some("uksouth".into()), Ok(())),
        (
            "closed",
            |w, _| vault(w).network.acls = Some(json!({"defaultAction":"Deny","bypass":"None"})),
            Err(Refusal::Firewall),
        ),
        (
            "no principal",
            |_, u| u.principal = "77777777-7777-4777-8777-777777777777".into(),
            Err(Refusal::IdentityGone),
        ),
        ("no right", |w, _| vault(w).access_policies.clear(), Err(Refusal::NoAccess)),
        ("only wrapping granted", |_, u| u.ops = Ops::Encrypt, Err(Refusal::NoAccess)),
        ("no key", |w, _| vault(w).keys.clear(), Err(Refusal::KeyMissing)),
        ("no version", |_, u| u.version = "v9".into(), Err(Refusal::KeyMissing)),
        ("disabled", |w, _| key(w).versions[0].enabled = false, Err(Refusal::KeyDisabled)),
        ("expired", |w, _| key(w).versions[0].exp = Some(5), Err(Refusal::KeyExpired)),
        ("too early", |w, _| key(w).versions[0].nbf = Some(i64::MAX), Err(Refusal::KeyNotYetValid)),
        (
            "an expiry date where none may be",
            |w, u| (key(w).versions[0].exp, u.needs_no_expiry) = (Some(i64::MAX), true),
            Err(Refusal::HasExpiry),
        ),
        ("no unwrapping", |w, _| key(w).versions[0].ops.retain(|o| o != "unwrapKey"), Err(Refusal::WrongKey)),
        ("too small", |_, u| u.sizes = (&[3072, 4096]).into(), Err(Refusal::WrongSize)),
        ("the size", |_, u| u.sizes = (&[2048, 4096]).into(), Ok(())),
    ];
    for (what, change, expected) in rows {
        let (mut w, _, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
        let mut wanted = key_use();
        change(&mut w, &mut wanted);
        assert_eq!(check(&w, &addresses(), &wanted, now).map(|_| ()), *expected, "{what}");
    }
}

#[test]
fn services_that_encrypt_need_the_right_and_the_operation_for_it() {
    let wanted = KeyUse { ops: Ops::Encrypt, ..key_use() };
    let (mut w, _, now) = world(json!(["get", "encrypt", "decrypt"]));
    assert!(check(&w, &addresses(), &wanted, now).is_ok());
    assert_eq!(check(&w, &addresses(), &key_use(), now).err(), Some(Refusal::NoAccess));
    key(&mut w).versions[0].ops.retain(|o| o != "decrypt");
    assert_eq!(check(&w, &addresses(), &wanted, now).err(), Some(Refusal::WrongKey));
}

async fn held(w: &mut World, wanted: KeyUse, now: OffsetDateTime) {
    let found = check(w, &addresses(), &wanted, now).expect("the key may be used");
    let hold = Hold::take(&found, wanted, now).await.expect("the key wraps");
    w.set_hold(THING, hold, now);
}

fn refused(w: &World) -> Option<Refusal> {
    w.hold(THING).expect("there is a hold").refused.map(|r| r.why)
}

#[tokio::test]
async fn a_look_comes_when_it_is_due_and_only_once_for_any_time_that_passed() {
    let (mut w, _, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
    held(&mut w, key_use(), now).await;
    key(&mut w).versions[0].enabled = false;
    w.tick(&addresses(), now + Duration::seconds(4));
    assert_eq!(refused(&w), None, "not yet looked");
    w.tick(&addresses(), now + Duration::seconds(5));
    assert_eq!(refused(&w), Some(Refusal::KeyDisabled));
    // The time at which access was lost stays when the reason changes.
    vault(&mut w).keys.clear();
    w.tick(&addresses(), now + Duration::days(3000));
    let lost = w.hold(THING).and_then(|h| h.refused).expect("still refused");
    assert_eq!((lost.why, lost.since), (Refusal::KeyMissing, now + Duration::seconds(5)));
    let next = w.hold(THING).and_then(|h| h.next_look);
    assert_eq!(next, Some(now + Duration::days(3000) + Duration::seconds(5)), "looks do not queue up");
}

#[tokio::test]
async fn a_look_asks_less_than_taking_does() {
    let (mut w, _, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
    held(&mut w, KeyUse { needs_no_expiry: true, ..key_use() }, now).await;
    key(&mut w).versions[0].exp = Some(now.unix_timestamp());
    vault(&mut w).access_policies[0]["permissions"]["keys"] = json!(["get", "unwrapKey"]);
    w.tick(&addresses(), now + Duration::seconds(5));
    assert_eq!(refused(&w), None, "an expired key still unwraps");
    vault(&mut w).access_policies[0]["permissions"]["keys"] = json!(["get", "wrapKey"]);
    w.tick(&addresses(), now + Duration::seconds(10));
    assert_eq!(refused(&w), Some(Refusal::NoAccess));
}

#[tokio::test]
async fn a_newer_version_is_followed_after_a_day_and_only_where_none_was_named() {
    let ops = ["wrapKey", "unwrapKey"];
    for (named, follows) in [("", true), ("v1", false)] {
        let (mut w, first, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
        held(&mut w, KeyUse { version: named.into(), ..key_use() }, now).await;
        let second = Arc::new(Material::rsa(2048, false).expect("a key is made"));
        key(&mut w).versions.push(version("v2", &second, &ops));
        let before = now + Duration::hours(24) - Duration::seconds(5);
        assert!(!w.tick(&addresses(), before));
        assert_eq!(w.hold(THING).expect("held").version, "v1");
        let after = now + Duration::hours(24);
        assert_eq!(w.tick(&addresses(), after), follows);
        let hold = w.hold(THING).expect("held");
        assert_eq!((hold.version.as_str(), hold.since == after), if follows { ("v2", true) } else { ("v1", false) });
        // The service stores what the first version wraps until the rewrapping is done.
        let (under, bytes) = hold.wrapped();
        assert_eq!(under, "v1");
        assert!(DataKey::unwrap(first, bytes.to_vec()).await.is_ok());
        assert!(DataKey::unwrap(second, bytes.to_vec()).await.is_err());
    }
}

#[tokio::test]
async fn the_daily_question_waits_for_access_and_passes_over_what_cannot_be_used() {
    let (mut w, material, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
    held(&mut w, key_use(), now).await;
    key(&mut w).versions.push(version("v2", &material, &["wrapKey", "unwrapKey"]));
    key(&mut w).versions[0].enabled = false;
    let day = now + Duration::hours(24);
    assert!(!w.tick(&addresses(), day), "the version in use is away, so the data key cannot be moved");
    key(&mut w).versions[0].enabled = true;
    key(&mut w).versions[1].enabled = false;
    assert!(!w.tick(&addresses(), day + Duration::seconds(5)));
    assert_eq!((w.hold(THING).expect("held").version.as_str(), refused(&w)), ("v1", None));
    key(&mut w).versions[1].enabled = true;
    assert!(!w.tick(&addresses(), day + Duration::seconds(10)), "it asks once a day");
    assert!(w.tick(&addresses(), day + Duration::hours(25)));
}

#[tokio::test]
async fn a_hold_is_written_without_its_data_key_and_shows_none() {
    let (mut w, _, now) = world(json!(["get", "wrapKey", "unwrapKey"]));
    held(&mut w, key_use(), now).await;
    let hold = w.hold(THING).expect("held");
    let text = serde_json::to_string(hold).expect("a hold is written");
    let back: Hold = serde_json::from_str(&text).expect("and read");
    assert_eq!((&back.kid, back.since, back.wrapped()), (&hold.kid, hold.since, hold.wrapped()));
    assert_eq!(back.key_use, hold.key_use);
    assert_eq!(format!("{:?}", DataKey::fresh()), "DataKey");
    w.drop_holds_under("/subscriptions/s/resourceGroups/RG");
    assert!(w.hold(THING).is_none());
}

#[tokio::test]
async fn sealed_bytes_open_only_under_the_same_key_and_name() {
    let (key, other) = (DataKey::fresh(), DataKey::fresh());
    let sealed = key.seal(b"c/b", b"bytes");
    assert_ne!(key.seal(b"c/b", b"bytes"), sealed, "each sealing has its own nonce");
    assert_eq!(key.unseal(b"c/b", &sealed).as_deref(), Some(&b"bytes"[..]));
    for (key, bound, sealed) in [
        (&other, &b"c/b"[..], sealed.clone()),
        (&key, b"c/x", sealed.clone()),
        (&key, b"c/b", sealed[..sealed.len() - 1].to_vec()),
        (&key, b"c/b", Vec::new()),
    ] {
        assert_eq!(key.unseal(bound, &sealed), None);
    }
}

#[tokio::test]
async fn the_keeper_rewraps_the_same_data_key_for_a_service_whose_data_nobody_opens() {
    let sim = crate::Simulator::start(Options::default()).await.expect("it starts");
    sim.clock().freeze();
    let (made, first, _) = world(json!(["get", "wrapKey", "unwrapKey"]));
    let now = sim.clock().now();
    let wanted = {
        let names = &sim.shared.addresses;
        KeyUse { vault_uri: names.url("kv.vault"), ..key_use() }
    };
    let found = sim.shared.world(|w| {
        w.vaults = made.vaults.clone();
        check(w, &sim.shared.addresses, &wanted, now).expect("the key may be used")
    });
    let hold = Hold::take(&found, wanted, now).await.expect("the key wraps");
    let before = DataKey::unwrap(first, hold.wrapped().1.to_vec()).await.expect("it unwraps");
    let second = Arc::new(Material::rsa(2048, false).expect("a key is made"));
    sim.shared.world(|w| {
        w.set_hold(THING, hold, now);
        key(w).versions.push(version("v2", &second, &["wrapKey", "unwrapKey"]));
    });
    sim.clock().advance(std::time::Duration::from_secs(24 * 3600));
    let wrapped = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let hold = sim.shared.world(|w| w.hold(THING).expect("held").clone());
            if hold.wrapped().0 == "v2" {
                return hold.wrapped().1.to_vec();
            }
            tokio::task::yield_now().await;
        }
    });
    let wrapped = wrapped.await.expect("the keeper rewraps");
    let after = DataKey::unwrap(second, wrapped).await.expect("the new version unwraps");
    assert_eq!(after.bytes(), before.bytes());
    sim.shutdown().await;
}
