//! Policy rules: `if` with allOf, anyOf, not and conditions on a field or value, `then` with deny, audit or disabled. Anything
//! else is refused when the definition is written, never passed over.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use crate::glob;
use crate::policy::expression::Expression;
use crate::policy::fields::{self, Subject};

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub condition: Condition,
    effect: Expression,
}

/// When a rule applies.
#[derive(Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test { left: Left, op: Op, right: Expression },
}

#[derive(Debug)]
pub(crate) enum Left {
    Field(String),
    Value(Expression),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    Equals,
    NotEquals,
    Like,
    NotLike,
    In,
    NotIn,
    Exists,
    Contains,
    NotContains,
    Less,
    LessOrEquals,
    Greater,
    GreaterOrEquals,
}

const OPS: &[(&str, Op)] = &[
    ("Equals", Op::Equals),
    ("NotEquals", Op::NotEquals),
    ("Like", Op::Like),
    ("NotLike", Op::NotLike),
    ("In", Op::In),
    ("NotIn", Op::NotIn),
    ("Exists", Op::Exists),
    ("Contains", Op::Contains),
    ("NotContains", Op::NotContains),
    ("Less", Op::Less),
    ("LessOrEquals", Op::LessOrEquals),
    ("Greater", Op::Greater),
    ("GreaterOrEquals", Op::GreaterOrEquals),
];

const EFFECTS: &[&str] = &["deny", "audit", "disabled"];

/// Conditions may lie this deep in each other.
const DEEPEST: usize = 16;

type Parameters<'p> = &'p dyn Fn(&str) -> Option<Value>;

impl Rule {
    /// Reads the rule of a definition's properties; the error says what is wrong or not supported.
    pub fn read(properties: &Map<String, Value>) -> Result<Self, String> {
        let rule = properties.get("policyRule").and_then(Value::as_object).ok_or("the policy rule is missing")?;
        if let Some(other) = rule.keys().find(|k| !["if", "then"].contains(&k.as_str())) {
            return Err(format!("the policy rule has the unknown property '{other}'"));
        }
        let then = rule.get("then").and_then(Value::as_object).ok_or("the policy rule has no 'then'")?;
        if let Some(other) = then.keys().find(|k| k.as_str() != "effect") {
            return Err(format!("'then.{other}' is not supported"));
        }
        let effect = Expression::read(then.get("effect").ok_or("the policy rule has no effect")?)?;
        let known = |v: &Value| v.as_str().is_some_and(|e| EFFECTS.iter().any(|k| k.eq_ignore_ascii_case(e)));
        let declared: Vec<(&String, &Value)> =
            properties.get("parameters").and_then(Value::as_object).into_iter().flatten().collect();
        match &effect {
            Expression::Literal(value) if known(value) => {}
            Expression::Parameter(name) => {
                let parameter = declared.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, p)| *p);
                let allowed = parameter.and_then(|p| p["allowedValues"].as_array()).into_iter().flatten();
                let default = parameter.and_then(|p| p.get("defaultValue"));
                if let Some(other) = allowed.chain(default).find(|v| !known(v)) {
                    return Err(format!("the effect {other} is not supported, only deny, audit and disabled"));
                }
            }
            _ => return Err("the effect is not supported, only deny, audit and disabled".to_owned()),
        }
        let condition = Condition::read(rule.get("if").ok_or("the policy rule has no 'if'")?, 0)?;
        let rule = Self { condition, effect };
        let mut used = Vec::new();
        rule.condition.parameters(&mut used);
        used.extend(rule.effect.parameter().map(str::to_owned));
        match used.iter().find(|u| !declared.iter().any(|(n, _)| n.eq_ignore_ascii_case(u))) {
            Some(missing) => Err(format!("the parameter '{missing}' is used but not defined")),
            None => Ok(rule),
        }
    }

    /// What happens when the condition holds.
    pub fn effect(&self, parameter: Parameters<'_>) -> String {
        let value = match &self.effect {
            Expression::Literal(value) => Some(value.clone()),
            Expression::Parameter(name) => parameter(name),
            _ => None,
        };
        value.as_ref().and_then(Value::as_str).unwrap_or("disabled").to_owned()
    }
}

impl Condition {
    fn read(value: &Value, depth: usize) -> Result<Self, String> {
        let map = value.as_object().ok_or("a condition must be an object")?;
        if depth > DEEPEST {
            return Err("conditions are nested too deeply".to_owned());
        }
        let get = |name: &str| map.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let several = |value: &Value| -> Result<Vec<Self>, String> {
            let items = value.as_array().ok_or("allOf and anyOf take an array")?;
            items.iter().map(|i| Self::read(i, depth + 1)).collect()
        };
        if map.len() == 1 {
            if let Some(all) = get("allOf") {
                return Ok(Self::All(several(all)?));
            }
            if let Some(any) = get("anyOf") {
                return Ok(Self::Any(several(any)?));
            }
            if let Some(not) = get("not") {
                return Ok(Self::Not(Box::new(Self::read(not, depth + 1)?)));
            }
        }
        let left = match (get("field"), get("value")) {
            (Some(Value::String(field)), None) if fields::known(field) => Left::Field(field.clone()),
            (Some(field), None) => return Err(format!("the field {field} is not supported")),
            (None, Some(value)) => Left::Value(Expression::read(value)?),
            _ => {
                let names: Vec<&str> = map.keys().map(String::as_str).collect();
                return Err(format!("a condition with '{}' is not supported", names.join(", ")));
            }
        };
        let mut tests = map.iter().filter(|(n, _)| !["field", "value"].contains(&n.to_lowercase().as_str()));
        let (Some((name, right)), None) = (tests.next(), tests.next()) else {
            return Err("a condition takes exactly one operator".to_owned());
        };
        let (_, op) = OPS
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("the operator '{name}' is not supported"))?;
        let right = Expression::read(right)?;
        if let (Op::In | Op::NotIn, Expression::Literal(literal)) = (op, &right)
            && !literal.is_array()
        {
            return Err(format!("the operator '{name}' takes an array"));
        }
        Ok(Self::Test { left, op: *op, right })
    }

    fn parameters(&self, out: &mut Vec<String>) {
        match self {
            Self::All(all) | Self::Any(all) => all.iter().for_each(|c| c.parameters(out)),
            Self::Not(one) => one.parameters(out),
            Self::Test { left, right, .. } => {
                out.extend(right.parameter().map(str::to_owned));
                if let Left::Value(value) = left {
                    out.extend(value.parameter().map(str::to_owned));
                }
            }
        }
    }

    /// Whether it holds. What was looked at is added to `seen`, as Azure's answer tells it.
    pub fn holds(&self, subject: &Subject, parameter: Parameters<'_>, seen: &mut Vec<Value>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|c| c.holds(subject, parameter, seen)),
            Self::Any(any) => any.iter().any(|c| c.holds(subject, parameter, seen)),
            Self::Not(one) => !one.holds(subject, parameter, seen),
            Self::Test { left, op, right } => {
                let right = right.value(subject, parameter).unwrap_or_default();
                let (values, many, expression, path) = match left {
                    Left::Field(field) => {
                        (subject.values(field), field.contains("[*]"), field.as_str(), subject.path(field))
                    }
                    Left::Value(value) => (value.value(subject, parameter).into_iter().collect(), false, "value", ""),
                };
                let result = if many {
                    // Every member has to pass; of no members all do.
                    values.iter().all(|v| test(Some(v), *op, &right))
                } else {
                    test(values.first(), *op, &right)
                };
                let name = OPS.iter().find(|(_, o)| o == op).map_or("", |(n, _)| n);
                seen.push(json!({
                    "result": if result { "True" } else { "False" },
                    "expressionKind": if path.is_empty() { "Value" } else { "Field" },
                    "expression": expression,
                    "path": path,
                    "expressionValue": values.first(),
                    "targetValue": right,
                    "operator": name,
                }));
                result
            }
        }
    }
}

fn test(left: Option<&Value>, op: Op, right: &Value) -> bool {
    let any = |v: &Value| right.as_array().into_iter().flatten().any(|r| same(v, r));
    let ordered = |want: fn(Ordering) -> bool| left.and_then(|l| order(l, right)).is_some_and(want);
    match op {
        Op::Equals => left.is_some_and(|l| same(l, right)),
        Op::NotEquals => !left.is_some_and(|l| same(l, right)),
        Op::Like => left.is_some_and(|l| glob::matches(&text(right), &text(l))),
        Op::NotLike => !left.is_some_and(|l| glob::matches(&text(right), &text(l))),
        Op::In => left.is_some_and(any),
        Op::NotIn => !left.is_some_and(any),
        Op::Exists => left.is_some() == (text(right).eq_ignore_ascii_case("true")),
        Op::Contains => left.is_some_and(|l| contains(l, right)),
        Op::NotContains => !left.is_some_and(|l| contains(l, right)),
        Op::Less => ordered(Ordering::is_lt),
        Op::LessOrEquals => ordered(Ordering::is_le),
        Op::Greater => ordered(Ordering::is_gt),
        Op::GreaterOrEquals => ordered(Ordering::is_ge),
    }
}

/// Scalars compare by their text without regard to case, so that `"false"` equals `false`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => a == b,
        _ => text(a).eq_ignore_ascii_case(&text(b)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn contains(left: &Value, right: &Value) -> bool {
    match left {
        Value::Array(items) => items.iter().any(|i| same(i, right)),
        _ => text(left).to_lowercase().contains(&text(right).to_lowercase()),
    }
}

/// Numbers by size, everything else by its text: dates of the usual form come out right.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    let number = |v: &Value| v.as_f64().or_else(|| v.as_str()?.parse().ok());
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => Some(text(a).to_lowercase().cmp(&text(b).to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::target::Target;

    fn rule(condition: Value) -> Result<Rule, String> {
        let Value::Object(properties) = json!({ "policyRule": { "if": condition, "then": { "effect": "deny" } } })
        else {
            return Err("an object".to_owned());
        };
        Rule::read(&properties)
    }

    fn subject() -> Subject {
        let path = "/subscriptions/s/resourceGroups/rg/providers/microsoft.storage/storageaccounts/st1";
        let target = Target::of(&crate::http::segments(path)).expect("a resource");
        let body = json!({ "location": "uksouth", "tags": { "Owner": "me" }, "sku": { "name": "Standard_LRS" },
            "properties": { "Encryption": { "keySource": "Microsoft.Storage" }, "on": false, "days": 7,
                "ips": [{ "value": "1.1.1.1" }, { "value": "2.2.2.2" }], "none": [] } });
        Subject::of(&target, body, "2025-08-01")
    }

    #[test]
    fn conditions() {
        let alias = |path: &str| format!("Microsoft.Storage/storageAccounts/{path}");
        for (condition, expected) in [
            (json!({ "field": "type", "equals": "microsoft.storage/STORAGEACCOUNTS" }), true),
            (json!({ "field": alias("encryption.keySource"), "notEquals": "Microsoft.Keyvault" }), true),
            (json!({ "not": { "field": alias("encryption.keysource"), "equals": "microsoft.storage" } }), false),
            (json!({ "field": alias("sku.name"), "in": ["Premium_LRS", "standard_lrs"] }), true),
            (json!({ "field": alias("sku.name"), "notIn": ["Premium_LRS"] }), true),
            (json!({ "field": alias("missing"), "exists": "false" }), true),
            (json!({ "field": alias("missing"), "exists": true }), false),
            (json!({ "field": alias("missing"), "equals": "x" }), false),
            (json!({ "field": alias("missing"), "notEquals": "x" }), true),
            (json!({ "field": alias("missing"), "less": 5 }), false),
            (json!({ "field": alias("on"), "equals": "false" }), true),
            (json!({ "field": alias("days"), "less": 10 }), true),
            (json!({ "field": alias("days"), "greaterOrEquals": "7" }), true),
            (json!({ "field": alias("ips[*].value"), "like": "*.*" }), true),
            (json!({ "field": alias("ips[*].value"), "like": "1*" }), false),
            (json!({ "field": alias("none[*]"), "equals": "x" }), true),
            (json!({ "field": "Microsoft.KeyVault/vaults/enablePurgeProtection", "exists": true }), false),
            (json!({ "field": "tags.owner", "equals": "me" }), true),
            (json!({ "field": "tags['Owner']", "contains": "m" }), true),
            (json!({ "field": "fullName", "like": "st?" }), false),
            (json!({ "field": "name", "notLike": "x*" }), true),
            (json!({ "value": "[requestContext().apiVersion]", "greater": "2019-01-01" }), true),
            (json!({ "value": "[field('location')]", "equals": "uksouth" }), true),
            (json!({ "allOf": [{ "field": "name", "equals": "st1" }, { "field": "location", "equals": "x" }] }), false),
            (json!({ "anyOf": [{ "field": "name", "equals": "st1" }, { "field": "location", "equals": "x" }] }), true),
        ] {
            let rule = rule(condition.clone()).unwrap_or_else(|e| panic!("{condition}: {e}"));
            assert_eq!(rule.condition.holds(&subject(), &|_| None, &mut Vec::new()), expected, "{condition}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for condition in [
            json!({ "count": { "field": "a/b/c[*]" }, "greater": 1 }),
            json!({ "field": "name", "match": "#" }),
            json!({ "field": "name", "equals": "a", "like": "b" }),
            json!({ "field": "name" }),
            json!({ "field": "strange", "equals": "a" }),
            json!({ "field": "name", "equals": "[concat('a', 'b')]" }),
            json!({ "field": "name", "equals": "[parameters('p')]" }),
            json!({ "field": "name", "in": "a" }),
            json!({ "allOf": {} }),
            json!([]),
        ] {
            assert!(rule(condition.clone()).is_err(), "{condition}");
        }
        let deep = (0..40).fold(json!({ "field": "name", "equals": "a" }), |c, _| json!({ "not": c }));
        assert!(rule(deep).is_err());
        let Value::Object(effect) = json!({ "policyRule": {
            "if": { "field": "name", "equals": "a" }, "then": { "effect": "deployIfNotExists" } } })
        else {
            unreachable!("it is an object")
        };
        assert!(Rule::read(&effect).is_err());
    }
}
