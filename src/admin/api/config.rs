//! The settings that are in force.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::State;

/// What takes the place of a secret.
const MASK: &str = "***";

/// One setting.
#[derive(Serialize, ToSchema)]
pub(super) struct Setting {
    /// Its key; items of lists are numbered from 0.
    #[schema(example = "listeners.0.address")]
    key: String,
    /// The value in force, `null` when it is unset. Secrets are masked.
    #[schema(required)]
    value: Option<Value>,
    /// The value that it has by default, `null` for unset.
    #[schema(required)]
    default: Option<Value>,
    /// Whether it is as it is by default.
    is_default: bool,
}

/// All settings.
#[derive(Serialize, ToSchema)]
pub(super) struct Settings {
    items: Vec<Setting>,
}

/// Every setting that is in force, with its default.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "about",
    responses((status = 200, description = "The settings.", body = Settings))
)]
pub(super) async fn config(Shared(state): Shared<State>) -> Json<Settings> {
    let settings = state.desk.plan().config.settings().into_iter();
    let items = settings.map(|setting| Setting {
        value: setting.value.as_deref().map(|value| mask(json(value))),
        default: setting.default.as_deref().map(json),
        is_default: setting.value == setting.default,
        key: setting.key,
    });
    Json(Settings { items: items.collect() })
}

/// A value as it stands in the file, in JSON.
fn json(toml: &str) -> Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {toml}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| toml.into())
}

/// Addresses of services may hold a name and a password, or a key in their query.
fn mask(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(masked(text)),
        Value::Array(values) => Value::Array(values.into_iter().map(mask).collect()),
        other => other,
    }
}

fn masked(text: String) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}{MASK}", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{path}{query}"),
        None => format!("{scheme}://{authority}{path}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_tells_in_secret_is_masked() {
        for (text, expected) in [
            ("http://127.0.0.1:9/mqtt", "http://127.0.0.1:9/mqtt"),
            ("https://a:b@example.org/c@d", "https://***@example.org/c@d"),
            ("https://a:b@c:d@example.org", "https://***@example.org"),
            ("https://example.org/a?key=b", "https://example.org/a?***"),
            ("https://example.org#b", "https://example.org#***"),
            ("no address: a@b", "no address: a@b"),
        ] {
            assert_eq!(masked(text.to_owned()), expected);
        }
    }

    #[test]
    fn values_are_those_of_json() {
        assert_eq!(json("\"a\""), Value::from("a"));
        assert_eq!(json("12"), Value::from(12));
        assert_eq!(json("true"), Value::from(true));
        assert_eq!(json("[\"a\", \"b\"]"), Value::from(vec!["a", "b"]));
    }
}
