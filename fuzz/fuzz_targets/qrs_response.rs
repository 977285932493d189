//! Any bytes as the answer of the repository service: no panic, and the names that a generic JSON
//! reader finds.

#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use ringside::enrich::AppNames;
use serde_json::Value;

fuzz_target!(|answer: &[u8]| {
    let Ok(names) = AppNames::from_json(answer) else { return };
    let Ok(Value::Array(apps)) = serde_json::from_slice(answer) else {
        // A generic reader refuses numbers that nobody asks for.
        return;
    };
    let mut expected = HashMap::new();
    for app in &apps {
        // Structs may also be written as arrays of their members.
        let (id, name) = match app {
            Value::Object(app) => (app.get("id"), app.get("name")),
            Value::Array(app) => (app.first(), app.get(1)),
            other => panic!("{other} is no app"),
        };
        let (id, name) = (id.and_then(Value::as_str), name.and_then(Value::as_str));
        let (id, name) = (id.expect("a text"), name.expect("a text"));
        if let Ok(id) = id.parse() {
            expected.insert(id, name);
        }
    }
    assert_eq!(names.len(), expected.len());
    for (id, name) in expected {
        assert_eq!(names.get(&id), Some(name));
    }
});
