//! The settings that are in force.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::State;

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
    /// Whether a change takes effect at the next start only.
    needs_restart: bool,
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
    operation_id = "get_config",
    tag = "about",
    responses((status = 200, description = "The settings.", body = Settings))
)]
pub(super) async fn config(Shared(state): Shared<State>) -> Json<Settings> {
    let settings = state.desk.plan().effective_config().settings().into_iter();
    let items = settings.map(|setting| Setting {
        value: setting.value.as_deref().map(json),
        needs_restart: setting.needs_restart,
        default: setting.default.as_deref().map(json),
        is_default: setting.value == setting.default,
        key: setting.key,
    });
    Json(Settings { items: items.collect() })
}

/// A value as it stands in the file, in JSON.
pub(super) fn json(toml: &str) -> Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {toml}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| toml.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_json() {
        assert_eq!(json("\"a\""), Value::from("a"));
        assert_eq!(json("12"), Value::from(12));
        assert_eq!(json("true"), Value::from(true));
        assert_eq!(json("[\"a\", \"b\"]"), Value::from(vec!["a", "b"]));
    }
}
