//! The documents of the API (`doc/openapi.yaml`, `doc/asyncapi.yaml`) as JSON, and a check of values against their
//! schemas, with the keywords that these documents use.

use std::fs;
use std::path::Path;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// A parsed document.
pub struct Document(pub Value);

impl Document {
    /// Reads a file of the repository.
    pub fn read(path: &str) -> Document {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the document");
        let mut parsed = YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(parsed.len(), 1, "{path}");
        Document(json(parsed.remove(0)))
    }

    /// The value itself, or what its `$ref` names.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').expect("a reference into this document");
        self.resolve(self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")))
    }

    /// All `$ref` in the document lead somewhere.
    pub fn check_references(&self) {
        fn visit(document: &Document, value: &Value) {
            match value {
                Value::Object(fields) => {
                    if value["$ref"].is_string() {
                        document.resolve(value);
                    }
                    fields.values().for_each(|field| visit(document, field));
                }
                Value::Array(items) => items.iter().for_each(|item| visit(document, item)),
                _ => {}
            }
        }
        visit(self, &self.0);
    }

    /// Panics if `value` does not have the form of `schema`. A field that the schema does not name is an error too: what
    /// the server sends is documented.
    pub fn check(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolve(schema);
        let is_of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("boolean") => value.is_boolean(),
            other => panic!("{at}: the schema has the type {other:?}"),
        };
        assert!(is_of_type, "{at}: {value} is not of the type {}", schema["type"]);
        assert!(schema["const"].is_null() || schema["const"] == *value, "{at}: {value} is not {}", schema["const"]);
        assert!(
            schema["enum"].as_array().is_none_or(|values| values.contains(value)),
            "{at}: {value} is not in {}",
            schema["enum"]
        );
        if let Some(text) = value.as_str() {
            let length = text.chars().count() as u64;
            let (min, max) = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
            assert!(min.unwrap_or(0) <= length && length <= max.unwrap_or(u64::MAX), "{at}: the length of {value}");
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}/{index}"));
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let required = required.as_str().expect("a name");
            assert!(value.get(required).is_some(), "{at}: {required} is missing in {value}");
        }
        for (name, field) in value.as_object().into_iter().flatten() {
            let field_schema = &schema["properties"][name];
            assert!(!field_schema.is_null(), "{at}: {name} is not documented");
            self.check(field_schema, field, &format!("{at}/{name}"));
        }
    }
}

/// The texts of a list.
pub fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().expect("a text")).collect()
}

fn json(yaml: Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::String(text),
        Yaml::Integer(number) => number.into(),
        Yaml::Boolean(flag) => flag.into(),
        Yaml::Real(text) => text.parse::<f64>().expect("a number").into(),
        Yaml::Array(items) => items.into_iter().map(json).collect(),
        Yaml::Hash(fields) => {
            let text = |key: Yaml| key.into_string().expect("a name");
            Value::Object(fields.into_iter().map(|(key, value)| (text(key), json(value))).collect())
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("not supported: {yaml:?}"),
    }
}
