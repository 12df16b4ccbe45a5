//! Which resource of the table a path means: its entry, its canonical id, its parent. The path is taken apart from its
//! provider on; everything else of ARM's paths is dealt with before.

use crate::arm::Asked;
use crate::arm::checks;
use crate::arm::generic::kind::{Action, Kind};
use crate::arm::generic::kinds;
use crate::arm::generic::resource::{Course, Resource};
use crate::arm::identity_block::IdentityBlock;
use crate::http::Failure;
use crate::state::World;

/// A resource that a path means, there or not.
pub(crate) struct Target {
    pub kind: &'static Kind,
    /// Canonical but for the names, which are as sent until the resource is there.
    pub id: String,
    pub name: String,
    pub group: String,
    /// Id of what it hangs under: a parent, or what an extension extends.
    pub parent: Option<String>,
}

/// What a path in a group asks for.
pub(crate) enum Route {
    Resource(Target),
    /// The resources of a type, of a group or under a parent, whose id this is.
    Collection(&'static Kind, String),
    Action(Target, &'static Action),
    /// Something below a type of the table that is not played.
    NotPlayed(String),
}

/// `segments` start with the namespace: `Microsoft.Sql/servers/s1/keys/k1`. `None`: nothing of the table.
pub(crate) fn route(asked: &Asked<'_>, group: &str, segments: &[&str]) -> Option<Route> {
    let mut scope = asked.group_id(group);
    let mut segments = segments;
    let mut extended = None;
    // An extension hangs on the resource before the last `providers`.
    if let Some(at) = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers")) {
        let (on, _) = walk(&scope, &segments[..at])?;
        let Walked::Resource { kind, id, .. } = on else { return None };
        extended = Some(kind.name);
        scope = id;
        segments = &segments[at + 1..];
    }
    let (walked, rest) = walk(&scope, segments)?;
    let target = |walked: Walked| match walked {
        Walked::Resource { kind, id, name, parent } => {
            Some(Target { kind, id, name, group: group.to_owned(), parent: parent.or(extended.map(|_| scope.clone())) })
        }
        Walked::Collection { .. } => None,
    };
    let (Walked::Resource { kind, .. } | Walked::Collection { kind, .. }) = &walked;
    if kinds::is_hand_written(kind) {
        // Another module plays the type itself.
        return None;
    }
    match (walked, rest) {
        (Walked::Collection { kind, under }, []) => {
            (kind.extends == extended).then_some(Route::Collection(kind, under))
        }
        (walked @ Walked::Resource { .. }, []) => {
            let target = target(walked)?;
            (target.kind.extends == extended).then_some(Route::Resource(target))
        }
        (walked, [verb]) => {
            let target = target(walked)?;
            let action = target.kind.actions.iter().find(|a| a.name.eq_ignore_ascii_case(verb));
            Some(match action {
                Some(action) => Route::Action(target, action),
                None => Route::NotPlayed(format!("{}/{verb}", target.kind.name)),
            })
        }
        (walked, [child, ..]) => target(walked).map(|t| Route::NotPlayed(format!("{}/{child}", t.kind.name))),
    }
}

enum Walked {
    Resource { kind: &'static Kind, id: String, name: String, parent: Option<String> },
    Collection { kind: &'static Kind, under: String },
}

/// Follows types and names as long as the table has them; the rest is left over.
fn walk<'s>(scope: &str, segments: &'s [&'s str]) -> Option<(Walked, &'s [&'s str])> {
    let (namespace, mut rest) = segments.split_first()?;
    let mut types = (*namespace).to_owned();
    let mut id = format!("{scope}/providers/{namespace}");
    let mut walked = None;
    let mut parent = None;
    while let Some((word, behind)) = rest.split_first() {
        let named = format!("{types}/{word}");
        let Some(kind) = kinds::find(&named).or_else(|| kinds::hand_written(&named)) else { break };
        if walked.is_none() {
            id = format!("{scope}/providers/{}", kind.namespace());
        }
        let own = kind.types().rsplit('/').next().unwrap_or_default();
        types = named;
        let Some((name, behind)) = behind.split_first() else {
            let under = parent.unwrap_or_else(|| scope.to_owned());
            return Some((Walked::Collection { kind, under }, &[]));
        };
        id = format!("{id}/{own}/{name}");
        walked = Some(Walked::Resource { kind, id: id.clone(), name: (*name).to_owned(), parent: parent.clone() });
        parent = Some(id.clone());
        rest = behind;
    }
    walked.map(|walked| (walked, rest))
}

impl Target {
    /// `s1/k1`, as ARM names a child in its messages.
    pub fn path_name(&self) -> String {
        let parts: Vec<&str> = self.id.split('/').collect();
        let at = parts.iter().rposition(|p| p.eq_ignore_ascii_case("providers")).unwrap_or_default();
        parts[at..].iter().skip(3).step_by(2).copied().collect::<Vec<_>>().join("/")
    }

    /// What is there, or what is there by itself with its parent.
    pub fn stored(&self, w: &World, asked: &Asked<'_>) -> Option<Resource> {
        if let Some(found) = w.resources.get(&self.id.to_lowercase()) {
            return Some(found.clone());
        }
        let (name, json) = self.kind.standing?;
        let parent = w.resources.get(&self.parent.as_ref()?.to_lowercase())?;
        if !name.eq_ignore_ascii_case(&self.name) || !parent.visible(asked.call.now) {
            return None;
        }
        let body = serde_json::from_str(json).ok()?;
        let (base, _) = self.id.rsplit_once('/')?;
        Some(Resource {
            id: format!("{base}/{name}"),
            name: name.to_owned(),
            kind: self.kind.name.to_owned(),
            body,
            tags: serde_json::Map::new(),
            identity: IdentityBlock::default(),
            made: std::collections::BTreeMap::new(),
            course: Course::done(parent.created),
            ..parent.clone()
        })
    }

    /// The region of the parent, which must be there, or of the group.
    pub fn parent_region(&self, w: &World, asked: &Asked<'_>) -> Result<String, Failure> {
        let Some(parent) = &self.parent else {
            let group = w.groups.get(&asked.group_id(&self.group).to_lowercase());
            return Ok(group.map(|g| g.location.clone()).unwrap_or_default());
        };
        let key = parent.to_lowercase();
        let now = asked.call.now;
        let found = w.resources.get(&key).filter(|r| r.visible(now)).map(|r| r.location.clone());
        let account =
            || w.accounts.values().find(|a| a.id.to_lowercase() == key && a.ready(now)).map(|a| a.location.clone());
        found.or_else(account).ok_or_else(|| {
            Failure::new(
                404,
                "ParentResourceNotFound",
                format!(
                    "Failed to perform '{}' on resource(s) of type '{}', because the parent resource '{parent}' could not be found.",
                    if asked.call.is("GET") { "read" } else { "write" },
                    self.kind.types()
                ),
            )
        })
    }

    /// Whether a resource of the type somewhere has the name, be it soft-deleted.
    pub fn name_taken(&self, w: &World) -> bool {
        let same = |r: &Resource| r.kind == self.kind.name && r.name.eq_ignore_ascii_case(&self.name);
        w.resources.values().any(same) || w.deleted_resources.values().any(|d| same(&d.resource))
    }

    /// Refuses api-versions from before the type was there.
    pub fn api_version(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        let version = asked.call.param("api-version").unwrap_or_default();
        if version.get(..10).is_none_or(|date| date >= self.kind.since) {
            return Ok(());
        }
        let newest =
            crate::arm::published::published(&self.kind.name.to_lowercase()).map_or(self.kind.since, |p| p.api_version);
        Err(Failure::new(
            400,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location '{}' and API version '{version}' for type '{}'. The supported api-versions are '{}, {newest}'. The supported locations are '{}'.",
                "uksouth",
                self.kind.types(),
                self.kind.since,
                checks::REGIONS.join(", ")
            ),
        ))
    }
}
