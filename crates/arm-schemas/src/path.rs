//! From the path of a request to the type it is about. Nothing here reads a body.

/// What a path names.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One resource of this type, as the path spells it.
    One(String),
    /// All resources of this type in some scope.
    Many(String),
}

/// The target of an ARM path; `None` where it names no resource: subscriptions, providers, long-running operations.
#[must_use]
pub fn target(path: &str) -> Option<Target> {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let is = |at: usize, name: &str| segments.get(at).is_some_and(|s: &&str| s.eq_ignore_ascii_case(name));
    if let Some(at) = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers")) {
        let namespace = segments.get(at + 1)?;
        let rest = &segments[at + 2..];
        // Types and names take turns.
        let types: Vec<&str> = rest.iter().step_by(2).copied().collect();
        if types.is_empty() || types[0].eq_ignore_ascii_case("locations") {
            return None;
        }
        let name = format!("{namespace}/{}", types.join("/"));
        return Some(if rest.len().is_multiple_of(2) { Target::One(name) } else { Target::Many(name) });
    }
    let group = || "Microsoft.Resources/resourceGroups".to_owned();
    match segments.len() {
        3 if is(2, "resourceGroups") => Some(Target::Many(group())),
        4 if is(2, "resourceGroups") => Some(Target::One(group())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_types() {
        let one = |t: &str| Some(Target::One(t.to_owned()));
        let many = |t: &str| Some(Target::Many(t.to_owned()));
        let group = "/subscriptions/s/resourcegroups/g";
        for (path, named) in [
            (group.to_owned(), one("Microsoft.Resources/resourceGroups")),
            ("/subscriptions/s/resourceGroups?api-version=1".to_owned(), many("Microsoft.Resources/resourceGroups")),
            (format!("{group}/providers/A.B/c"), many("A.B/c")),
            (format!("{group}/providers/A.B/c/x/"), one("A.B/c")),
            (format!("{group}/providers/A.B/c/x/d/y"), one("A.B/c/d")),
            (format!("{group}/providers/A.B/c/x/providers/E.F/g/h?x=/providers/q"), one("E.F/g")),
            (format!("{group}/resources"), None),
            ("/subscriptions/s/providers/A.B".to_owned(), None),
            ("/subscriptions/s/providers/A.B/locations/l/operations/o".to_owned(), None),
        ] {
            assert_eq!(target(&path), named, "{path}");
        }
    }
}
