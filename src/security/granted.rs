//! Rights as JSON, as tokens and authentication services carry them.

use serde_json::Value;

use super::Granted;
use crate::topic::TopicFilter;

impl Granted {
    /// Reads an object with lists of Topic Filters: `{"publish": ["a/+"], "subscribe": [], "receive": ["#"], "will": []}`. What is left
    /// out is an empty list.
    ///
    /// # Errors
    /// What is wrong with it. An entry that is not understood makes all of it invalid, lest somebody believes in a right or a bound that
    /// is none.
    pub fn from_json(value: &Value) -> Result<Self, &'static str> {
        let object = value.as_object().ok_or("the rights are no object")?;
        let mut granted = Self::default();
        for (action, filters) in object {
            let list = match action.as_str() {
                "publish" => &mut granted.publish,
                "subscribe" => &mut granted.subscribe,
                "receive" => &mut granted.receive,
                "will" => &mut granted.will,
                _ => return Err("the rights name an action that is none"),
            };
            let filters = filters.as_array().ok_or("the rights of an action are no list")?;
            for filter in filters {
                let filter = filter.as_str().ok_or("the rights hold something that is no text")?;
                list.push(TopicFilter::parse(filter).map_err(|_| "the rights hold something that is no Topic Filter")?);
            }
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filters(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect()
    }

    #[test]
    fn each_action_has_its_filters() {
        let granted = Granted::from_json(&json!({
            "publish": ["a", "b/+"], "subscribe": ["#"], "receive": ["r"], "will": ["w/#"],
        }));
        let expected = Granted {
            publish: filters(&["a", "b/+"]),
            subscribe: filters(&["#"]),
            receive: filters(&["r"]),
            will: filters(&["w/#"]),
        };
        assert_eq!(granted, Ok(expected));
        assert_eq!(Granted::from_json(&json!({})), Ok(Granted::default()), "nothing is allowed");
    }

    #[test]
    fn anything_that_is_not_understood_makes_all_of_it_invalid() {
        for wrong in [
            json!(null),
            json!(["a"]),
            json!({"publish": "a"}),
            json!({"publish": [1]}),
            json!({"publish": ["a"], "Subscribe": ["b"]}),
            json!({"publish": ["a#"]}),
            json!({"will": [""]}),
        ] {
            assert!(Granted::from_json(&wrong).is_err(), "{wrong}");
        }
    }
}
