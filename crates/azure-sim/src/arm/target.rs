//! What a request to ARM is about: the resource named by its path, its type, and the action asked of it. Read from the
//! path alone, for the rules that hold for all providers alike.

use crate::http::Call;

/// The resource that a request names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The id in the caller's spelling, with `subscriptions` and `resourceGroups` in Azure's; for a list, of the scope.
    pub id: String,
    /// `Microsoft.KeyVault`; groups and subscriptions are of `Microsoft.Resources`.
    pub namespace: String,
    /// `vaults`, `storageAccounts/blobServices`, `subscriptions/resourceGroups`.
    pub kind: String,
    /// The last name in the id.
    pub name: String,
    /// The group, if the resource is in one.
    pub group: Option<String>,
    /// What stands behind the resource: an action of a POST, or the type of a list.
    pub tail: Vec<String>,
}

impl Target {
    /// `None` for paths that are not under a subscription.
    pub fn of(segments: &[String]) -> Option<Self> {
        let [head, subscription, rest @ ..] = segments else {
            return None;
        };
        if !head.eq_ignore_ascii_case("subscriptions") {
            return None;
        }
        let mut target = Self {
            id: format!("/subscriptions/{subscription}"),
            namespace: "Microsoft.Resources".to_owned(),
            kind: "subscriptions".to_owned(),
            name: subscription.clone(),
            group: None,
            tail: Vec::new(),
        };
        let mut rest = rest;
        if let [groups, group, more @ ..] = rest
            && groups.eq_ignore_ascii_case("resourceGroups")
        {
            target.id = format!("{}/resourceGroups/{group}", target.id);
            target.kind = "subscriptions/resourceGroups".to_owned();
            target.name.clone_from(group);
            target.group = Some(group.clone());
            rest = more;
        }
        while let [providers, namespace, more @ ..] = rest {
            if !providers.eq_ignore_ascii_case("providers") {
                break;
            }
            target.block(namespace, &mut rest, more);
        }
        target.tail.extend(rest.iter().cloned());
        Some(target)
    }

    /// One `providers/{namespace}/{type}/{name}…` of the path. Without a name, it stays a tail.
    fn block<'s>(&mut self, namespace: &str, rest: &mut &'s [String], mut more: &'s [String]) {
        let mut kinds: Vec<&str> = Vec::new();
        let mut id = format!("{}/providers/{namespace}", self.id);
        while let [kind, name, after @ ..] = more {
            if kind.eq_ignore_ascii_case("providers") {
                break;
            }
            id = format!("{id}/{kind}/{name}");
            kinds.push(kind);
            self.name.clone_from(name);
            more = after;
        }
        namespace.clone_into(&mut self.namespace);
        if kinds.is_empty() {
            // `providers/{ns}/{type}` is a list or an action of the scope above.
            self.kind.clear();
            self.tail.extend(more.iter().cloned());
            *rest = &[];
            return;
        }
        self.id = id;
        self.kind = kinds.join("/");
        *rest = more;
    }

    /// `Microsoft.KeyVault/vaults`.
    pub fn full_kind(&self) -> String {
        format!("{}/{}", self.namespace, self.kind)
    }

    /// Whether the path names one resource, with nothing behind it.
    pub fn is_resource(&self) -> bool {
        self.tail.is_empty() && !self.kind.is_empty()
    }

    pub fn is_group(&self) -> bool {
        self.kind == "subscriptions/resourceGroups"
    }

    /// The type that the api-version belongs to: the resource's, or that of the list or action behind it.
    pub fn version_kind(&self) -> String {
        match self.tail.first() {
            Some(tail) if self.kind.is_empty() => tail.clone(),
            _ => self.kind.clone(),
        }
    }

    /// The action on the management plane that the method asks for, as role definitions spell it.
    pub fn action(&self, call: &Call) -> String {
        let verb = match call.method.as_str() {
            "GET" | "HEAD" => "read".to_owned(),
            "DELETE" => "delete".to_owned(),
            "POST" => format!("{}/action", self.tail.join("/")),
            _ => "write".to_owned(),
        };
        if self.kind.is_empty() {
            return format!("{}/{verb}", self.namespace);
        }
        format!("{}/{}/{verb}", self.namespace, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Target {
        Target::of(&crate::http::segments(path)).expect("a path under a subscription")
    }

    #[test]
    fn paths_name_resources() {
        for (path, id, kind, name, tail) in [
            ("/subscriptions/s", "/subscriptions/s", "Microsoft.Resources/subscriptions", "s", ""),
            (
                "/subscriptions/s/resourcegroups/rg",
                "/subscriptions/s/resourceGroups/rg",
                "Microsoft.Resources/subscriptions/resourceGroups",
                "rg",
                "",
            ),
            (
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x/ys/y/",
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x/ys/y",
                "A.B/xs/ys",
                "y",
                "",
            ),
            (
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x/listKeys",
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x",
                "A.B/xs",
                "x",
                "listKeys",
            ),
            (
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x/providers/C.D/ls/l",
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs/x/providers/C.D/ls/l",
                "C.D/ls",
                "l",
                "",
            ),
            ("/subscriptions/s/providers/A.B/register", "/subscriptions/s", "A.B/", "s", "register"),
            (
                "/subscriptions/s/resourceGroups/rg/providers/A.B/xs",
                "/subscriptions/s/resourceGroups/rg",
                "A.B/",
                "rg",
                "xs",
            ),
            (
                "/subscriptions/s/resourceGroups/rg/resources",
                "/subscriptions/s/resourceGroups/rg",
                "Microsoft.Resources/subscriptions/resourceGroups",
                "rg",
                "resources",
            ),
        ] {
            let target = of(path);
            assert_eq!(
                (target.id.as_str(), target.full_kind().as_str(), target.name.as_str(), target.tail.join("/").as_str()),
                (id, kind, name, tail),
                "{path}"
            );
        }
        assert_eq!(Target::of(&crate::http::segments("/providers/A.B/x")), None);
    }
}
