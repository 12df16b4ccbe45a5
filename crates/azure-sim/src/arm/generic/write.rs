//! PUT and PATCH: the body is checked and merged, the identities, the type's own rules and the keys are looked at, and only
//! then something is changed. The wrapping of a data key runs between two looks at the world; the second one decides.

use serde_json::{Map, Value};

use crate::arm::Asked;
use crate::arm::checks::{self, not_found};
use crate::arm::generic::keys::{self, Step};
use crate::arm::generic::kind::{Answers, Follow, Kind};
use crate::arm::generic::resource::{Course, Resource, Stage};
use crate::arm::generic::route::Target;
use crate::arm::generic::rule::{Cmk, Looks, Said, Trouble};
use crate::arm::generic::{body, errors, pointer, soft, track};
use crate::arm::identity_block::{self, Wanted};
use crate::arm::no_method;
use crate::cmk::{self, Hold, KeyUse, Usable};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::check;
use crate::state::World;

/// A write as a type's `guard` sees it.
pub(crate) struct Change<'a> {
    pub world: &'a World,
    pub kind: &'static Kind,
    /// What is there; `None` for a creation.
    pub have: Option<&'a Resource>,
    /// The body as it was sent, read-only members and all.
    pub sent: &'a Value,
    pub partial: bool,
    /// The api-version of the request.
    pub version: &'a str,
    pub now: time::OffsetDateTime,
    /// Whether other identities are wanted than the resource has.
    pub other_identities: bool,
    /// Identities of `next` after the write; a system-assigned one that is only wanted is not in it yet.
    pub next: &'a mut Resource,
}

impl Change<'_> {
    /// Whether the body says anything there.
    pub fn says(&self, at: &str) -> bool {
        pointer::sent(self.sent, at)
    }

    /// Refuses what came into the type with a later version than the request's.
    pub fn since(&self, at: &str, version: &str) -> Result<(), Failure> {
        if self.version.get(..10).is_some_and(|date| date >= version) || !self.says(at) {
            return Ok(());
        }
        let name = at.rsplit('/').next().unwrap_or_default();
        let why = format!("Could not find member '{name}' on object of type '{}'.", self.kind.name);
        Err(Failure::new(400, "InvalidRequestContent", format!("The request content was invalid: {why}")))
    }

    /// Whether the write puts the value there, be it the one that is there already.
    pub fn text(&self, at: &str) -> Option<&str> {
        pointer::text(&self.next.body, at)
    }

    /// Takes back what the body said there.
    pub fn undo(&mut self, at: &str) {
        match self.have.and_then(|h| pointer::get(&h.body, at)) {
            Some(old) => pointer::set(&mut self.next.body, at, old.clone()),
            None => {
                pointer::remove(&mut self.next.body, at);
            }
        }
    }
}

/// What a write will do.
struct Draft {
    next: Resource,
    wanted: Option<Wanted>,
    /// The keys to take, with the rule of each.
    takes: Vec<(&'static Cmk, KeyUse, Usable)>,
    drops: Vec<&'static Cmk>,
    /// The operation is accepted and ends so.
    fails: Option<Said>,
    /// The creation takes a soft-deleted resource back.
    restores: bool,
    new: bool,
}

pub(crate) async fn write(asked: &Asked<'_>, target: &Target) -> Outcome {
    let kind = target.kind;
    let answers = if asked.call.is("PATCH") { kind.patch } else { kind.put };
    let Some(answers) = answers else { return Err(no_method(asked.call)) };
    let first = asked.shared.world(|w| draft(asked, w, target))?;
    let mut holds: Vec<Hold> = Vec::new();
    for (rule, key_use, found) in &first.takes {
        let id = keys::hold_id(&first.next.id, rule);
        let held = cmk::prepare(asked.shared, &id, found, key_use.clone(), asked.call.now).await;
        holds.push(held.map_err(|why| errors::failure(kind, asked.call, errors::said(rule, &Trouble::Key(why))))?);
    }
    asked.shared.world(|w| {
        let draft = draft(asked, w, target)?;
        let as_before = draft.takes.len() == holds.len()
            && draft
                .takes
                .iter()
                .zip(&holds)
                .all(|((_, key_use, found), hold)| found.kid == hold.kid && *key_use == hold.key_use);
        if !as_before {
            // Somebody else changed the key or the resource in between; the caller may try again.
            return Err(busy(kind, asked, &draft.next));
        }
        commit(asked, w, target, draft, holds, answers)
    })
}

/// For keys to which the grant comes after the write: takes them as soon as they can be used, when somebody looks.
pub(crate) async fn take_late(asked: &Asked<'_>, target: &Target) {
    let now = asked.call.now;
    for rule in target.kind.cmk.iter().filter(|rule| rule.grant_later) {
        let found = asked.shared.world(|w| {
            let resource = w.resources.get(&target.id.to_lowercase())?;
            let id = keys::hold_id(&resource.id, rule);
            if resource.course.running(now) || w.hold(&id).is_some() {
                return None;
            }
            match keys::step(w, &asked.shared.addresses, rule, None, resource, true, now) {
                Ok(Step::Take(found)) => Some((id, *found)),
                _ => None,
            }
        });
        let Some((id, (key_use, found))) = found else { continue };
        if let Ok(hold) = cmk::prepare(asked.shared, &id, &found, key_use, now).await {
            asked.shared.world(|w| {
                if w.resources.contains_key(&target.id.to_lowercase()) && w.hold(&id).is_none() {
                    w.set_hold(&id, hold, now);
                }
            });
        }
    }
}

fn busy(kind: &Kind, asked: &Asked<'_>, resource: &Resource) -> Failure {
    let (status, code) = kind.busy;
    let message = format!(
        "There is already an operation in progress which requires exclusive access to the resource '{}'. Please retry later.",
        resource.id
    );
    errors::shaped(kind, asked.call, Failure::new(status, code, message))
}

fn draft(asked: &Asked<'_>, w: &mut World, target: &Target) -> Result<Draft, Failure> {
    let (kind, now) = (target.kind, asked.call.now);
    let partial = asked.call.is("PATCH");
    check::require(w, &asked.caller, &format!("{}/write", kind.name), &target.id, now)?;
    target.api_version(asked)?;
    let group = checks::open_group(w, &asked.group_id(&target.group), &target.group)?;
    let place = target.parent_region(w, asked)?;
    if !kind.naming.admits(&target.name) {
        return Err(errors::shaped(kind, asked.call, bad_name(target)));
    }
    let sent = asked.call.object()?;
    let mut body = body::canonical(kind, sent.clone(), partial).map_err(|f| errors::shaped(kind, asked.call, f))?;
    let sent = Value::Object(sent);
    let have = target.stored(w, asked).filter(|r| !r.course.hidden || r.course.running(now) || !r.course.fails);
    if have.as_ref().is_some_and(|r| r.course.running(now)) {
        return Err(busy(kind, asked, have.as_ref().expect("it was just looked at")));
    }
    as_read(asked, kind, have.as_ref(), &mut body)?;
    let restored = if have.is_none() && !partial { soft::asked_back(asked, w, target, &sent)? } else { None };
    let restores = restored.is_some();
    let mut next = match (&have, restored) {
        (Some(have), _) => have.clone(),
        (None, Some(old)) => old,
        (None, None) if partial => return Err(not_found(kind.name, &target.path_name(), &group)),
        (None, None) => {
            if kind.naming.global && target.name_taken(w) {
                return Err(errors::shaped(kind, asked.call, name_taken(target)));
            }
            blank(asked, target, &body, &place)?
        }
    };
    body::apply(&mut next, kind, &body, have.as_ref(), partial || restores)?;
    let wanted = identities(asked, w, kind, &body, &mut next, partial)?;
    let other_identities = wanted.as_ref().is_some_and(|wanted| {
        have.as_ref().is_none_or(|h| h.identity.user != wanted.user || h.identity.system.is_some() != wanted.system)
    });
    let version = asked.call.param("api-version").unwrap_or_default();
    let mut change = Change {
        world: w,
        kind,
        have: have.as_ref(),
        sent: &sent,
        partial,
        version,
        now,
        other_identities,
        next: &mut next,
    };
    (kind.guard)(&mut change).map_err(|f| errors::shaped(kind, asked.call, f))?;
    body::unchanged(kind, have.as_ref(), &next).map_err(|f| errors::shaped(kind, asked.call, f))?;
    let new = have.is_none();
    let mut draft = Draft { next, wanted, takes: Vec::new(), drops: Vec::new(), fails: None, restores, new };
    key_steps(asked, w, kind, have.as_ref(), &sent, partial, &mut draft)?;
    Ok(draft)
}

/// Refuses a write to another content than the caller has read, as far as it says what that was.
fn as_read(
    asked: &Asked<'_>,
    kind: &Kind,
    have: Option<&Resource>,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let Some(member) = kind.etag else { return Ok(()) };
    let in_body = body.remove(member).and_then(|etag| etag.as_str().map(str::to_owned));
    let known = [asked.call.header("if-match").map(str::to_owned), in_body];
    let is = |etag: &String| have.is_some_and(|have| etag == "*" || *etag == have.etag());
    if known.iter().flatten().all(is) {
        return Ok(());
    }
    let message = "The condition 'If-Match' was not met: the resource has been changed since it was read.";
    Err(errors::shaped(kind, asked.call, Failure::new(412, "PreconditionFailed", message)))
}

/// What becomes of each of the type's keys.
fn key_steps(
    asked: &Asked<'_>,
    w: &mut World,
    kind: &'static Kind,
    have: Option<&Resource>,
    sent: &Value,
    partial: bool,
    draft: &mut Draft,
) -> Result<(), Failure> {
    for rule in kind.cmk {
        if let (Looks::Made(at), true) = (&rule.looks, keys::is_on(rule, &draft.next.body))
            && !draft.next.made.contains_key(*at)
        {
            // The principal of a refused write is never seen by anybody.
            let name = format!("{}{at}@{}", draft.next.id, asked.call.now);
            draft.next.made.insert((*at).to_owned(), crate::entra::first_party::made_for(&name));
        }
        let touched = !partial
            || (!rule.identity_apart && pointer::sent(sent, "/identity"))
            || rule.pointers().iter().any(|at| pointer::sent(sent, at))
            || have.is_some_and(|h| h.course.failed(asked.call.now));
        match keys::step(w, &asked.shared.addresses, rule, have, &draft.next, touched, asked.call.now) {
            Ok(Step::Leave | Step::Later) => {}
            Ok(Step::Take(found)) => draft.takes.push((rule, found.0, found.1)),
            Ok(Step::Drop) => draft.drops.push(rule),
            Err(trouble) => {
                let said = errors::said(rule, &trouble);
                if !said.later {
                    return Err(errors::failure(kind, asked.call, said));
                }
                draft.fails = Some(said);
            }
        }
        if !keys::is_on(rule, &draft.next.body) {
            for at in rule.clears {
                pointer::remove(&mut draft.next.body, at);
            }
        }
    }
    if draft.fails.is_some() {
        draft.takes.clear();
    }
    Ok(())
}

fn bad_name(target: &Target) -> Failure {
    let naming = &target.kind.naming;
    Failure::new(
        400,
        "InvalidResourceName",
        format!(
            "'{}' is not a valid name of a resource of type '{}': {} to {} characters, letters, digits and '{}'.",
            target.name, target.kind.name, naming.least, naming.most, naming.besides
        ),
    )
}

fn name_taken(target: &Target) -> Failure {
    Failure::new(409, "NameUnavailable", format!("The name '{}' is already taken.", target.name))
}

fn blank(asked: &Asked<'_>, target: &Target, body: &Map<String, Value>, place: &str) -> Result<Resource, Failure> {
    let location = match body.contains_key("location") && target.kind.placed {
        true => body::region(target.kind, body)?,
        false => place.to_owned(),
    };
    let (now, by) = (asked.call.now, asked.caller.appid.clone());
    Ok(Resource {
        id: target.id.clone(),
        name: target.name.clone(),
        kind: target.kind.name.to_owned(),
        location,
        tags: Map::new(),
        identity: identity_block::IdentityBlock::default(),
        body: Value::Object(Map::new()),
        made: std::collections::BTreeMap::new(),
        created: now,
        created_by: by.clone(),
        modified: now,
        modified_by: by,
        course: Course::done(now),
    })
}

fn identities(
    asked: &Asked<'_>,
    w: &World,
    kind: &Kind,
    body: &Map<String, Value>,
    next: &mut Resource,
    partial: bool,
) -> Result<Option<Wanted>, Failure> {
    let Some(mut wanted) = identity_block::wanted(body, &next.identity, partial)? else { return Ok(None) };
    let takes = kind.identities;
    let both = wanted.system && !wanted.user.is_empty();
    if (wanted.system && !takes.system) || (!wanted.user.is_empty() && !takes.user) || (both && takes.both.is_none()) {
        // Code UNVERIFIED.
        return Err(errors::shaped(
            kind,
            asked.call,
            Failure::new(
                400,
                "InvalidIdentityType",
                format!("The identity type is not supported by resources of type '{}'.", kind.name),
            )
            .target("identity.type"),
        ));
    }
    let action = format!("{}/write", kind.name);
    identity_block::assignable(asked, w, &mut wanted, &next.identity, &action, &next.id)?;
    next.identity.user.clone_from(&wanted.user);
    if !wanted.system {
        next.identity.system = None;
    }
    Ok(Some(wanted))
}

fn commit(
    asked: &Asked<'_>,
    w: &mut World,
    target: &Target,
    draft: Draft,
    holds: Vec<Hold>,
    answers: Answers,
) -> Outcome {
    let (kind, now) = (target.kind, asked.call.now);
    let Draft { mut next, wanted, takes, drops, fails, restores, new } = draft;
    let key = next.id.to_lowercase();
    if let Some(wanted) = wanted {
        // `draft` has already taken the identities out that go; their principals go here.
        next.identity.system = w.resources.get(&key).and_then(|r| r.identity.system.clone());
        let (id, name) = (next.id.clone(), next.name.clone());
        next.identity.apply(w, wanted, &id, &name, now);
    }
    let mut changed = new || fails.is_some() || w.resources.get(&key).is_none_or(|have| !have.same_content(&next));
    changed |= w.resources.get(&key).is_some_and(|have| have.course.failed(now));
    for ((rule, ..), hold) in takes.iter().zip(&holds) {
        changed |=
            w.hold(&keys::hold_id(&next.id, rule)).is_none_or(|h| h.kid != hold.kid || h.key_use != hold.key_use);
    }
    if !changed {
        return Ok(Reply::ok(next.render(w, asked.shared, now)));
    }
    let lro = if answers.follow == Follow::Done && fails.is_none() {
        next.course = Course::done(now);
        None
    } else {
        let stage = if new { Stage::Creating } else { Stage::Updating };
        let failure = fails.map(|said| (said.code.to_owned(), said.message));
        let op = track::start(asked, w, target, Some(&next.id), failure);
        next.course = Course { stage, ends: op.ends, fails: op.fails, hidden: new && answers.follow == Follow::Hidden };
        Some(op)
    };
    asked.call.touch();
    (next.modified, next.modified_by) = (now, asked.caller.appid.clone());
    if restores {
        w.deleted_resources.remove(&key);
    }
    for (at, oid) in &next.made {
        crate::entra::first_party::introduce(w, oid, &format!("{}{at}", next.name), &next.id, now);
    }
    for rule in drops {
        w.drop_hold(&keys::hold_id(&next.id, rule));
    }
    if !next.course.fails {
        for ((rule, ..), hold) in takes.iter().zip(holds) {
            w.set_hold(&keys::hold_id(&next.id, rule), hold, now);
        }
    }
    w.resources.insert(key.clone(), next.clone());
    (kind.after)(w, &next, now);
    let body = w.resources.get(&key).unwrap_or(&next).render(w, asked.shared, now);
    let status = if new { answers.new } else { answers.existing };
    Ok(track::reply(asked, target, status, answers.follow, lro.as_ref(), Some(body), &next.location))
}
