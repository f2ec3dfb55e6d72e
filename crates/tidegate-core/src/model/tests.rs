use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Cases of the official suite that need what is not here: references out of the schema, and `id` as a base.
const SKIPPED: [(&str, &str); 12] = [
    ("definitions.json", "validate definition against metaschema"),
    ("ref.json", "remote ref, containing refs itself"),
    ("ref.json", "Recursive references between schemas"),
    ("ref.json", "Location-independent identifier"),
    ("ref.json", "Location-independent identifier with base URI change in subschema"),
    ("ref.json", "id must be resolved against nearest parent, not just immediate parent"),
    ("ref.json", "id with file URI still resolves pointers - *nix"),
    ("ref.json", "id with file URI still resolves pointers - windows"),
    ("ref.json", "refs with relative uris and defs"),
    ("ref.json", "relative refs with absolute uris and defs"),
    ("ref.json", "$ref prevents a sibling id from changing the base uri"),
    ("ref.json", "empty tokens in $ref json-pointer"),
];

#[test]
fn the_official_suite() {
    // AG-21
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json-schema-draft4");
    let mut n_tests = 0;
    let mut n_skipped = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the suite is in the tree") {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if !file.ends_with(".json") {
            continue;
        }
        let groups: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for group in groups.as_array().unwrap() {
            let name = group["description"].as_str().unwrap();
            if SKIPPED.contains(&(file.as_str(), name)) {
                n_skipped += 1;
                continue;
            }
            let model = match Model::compile(&group["schema"].to_string()) {
                Ok(model) => model,
                Err(error) => {
                    wrong.push(format!("{file}, {name}: {error}"));
                    continue;
                }
            };
            for test in group["tests"].as_array().unwrap() {
                n_tests += 1;
                let result = model.validate(&test["data"].to_string());
                if result.is_ok() != test["valid"].as_bool().unwrap() {
                    wrong.push(format!("{file}, {name}, {}: {result:?}", test["description"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {n_tests} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_tests > 500, "{n_tests}");
    assert!(n_skipped <= SKIPPED.len());
}

#[track_caller]
fn violations(schema: &str, message: &str) -> String {
    match Model::compile(schema).unwrap().validate(message) {
        Ok(()) => String::new(),
        Err(misfit) => misfit.to_string(),
    }
}

#[test]
fn violations_are_told_without_the_message() {
    // AG-21
    let schema = r#"{"type":"object","required":["action","room"],"additionalProperties":false,"properties":{
        "action":{"enum":["join"]},"room":{"type":"string","minLength":3},"n":{"minimum":1,"type":"integer"}}}"#;
    assert_eq!(violations(schema, r#"{"action":"join","room":"blue"}"#), "");
    assert_eq!(
        violations(schema, r#"{"action":"secret1","n":0.5,"secret2":1}"#),
        "[object has missing required properties ([\"room\"]), \
         instance value not found in enum (possible values: [\"join\"]), \
         numeric instance is lower than the required minimum (minimum: 1), \
         instance type (number) does not match any allowed primitive type (allowed: [\"integer\"]), \
         object instance has properties which are not allowed by the schema: 1]"
    );
    assert_eq!(violations(schema, "hello"), "the message is not JSON, from byte 0 on");
    let list = r#"{"items":{"type":"string"}}"#;
    let Err(Misfit::Violations(told)) =
        Model::compile(list).unwrap().validate(&format!("[{}0]", "1,".repeat(99)))
    else {
        panic!()
    };
    assert_eq!(told.len(), MAX_VIOLATIONS);
}

#[test]
fn what_is_no_schema_is_refused() {
    for (schema, place) in [
        ("x", ""),
        ("[]", "#"),
        (r#"{"type":"text"}"#, "#/type"),
        (r#"{"properties":{"a/b":{"type":1}}}"#, "#/properties/a~1b/type"),
        (r#"{"minimum":"1"}"#, "#/minimum"),
        (r#"{"required":true}"#, "#/required"),
        (r#"{"pattern":"("}"#, "#/pattern"),
        (r##"{"$ref":"#/definitions/x"}"##, "#"),
        (r#"{"$ref":"https://apigateway.amazonaws.com/restapis/x/models/Y"}"#, "#"),
        (r#"{"definitions":{"x":{"enum":[]}}}"#, "#/definitions/x/enum"),
        (r#"{"maxLength":-1}"#, "#/maxLength"),
        (r#"{"minimum":1,"exclusiveMinimum":1}"#, "#/"),
    ] {
        match check(schema) {
            Err(ModelError::Schema { place: at, .. }) => assert!(at.starts_with(place), "{schema}: {at}"),
            Err(ModelError::Json(_)) => assert_eq!(place, "", "{schema}"),
            other => panic!("{schema}: {other:?}"),
        }
    }
    assert_eq!(check(&" ".repeat(MAX_SCHEMA_BYTES + 1)), Err(ModelError::TooLong));
}

#[test]
fn work_is_bounded() {
    let complex = [
        (r##"{"$ref":"#"}"##.to_owned(), "1".to_owned()),
        (r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##.to_owned(), "1".to_owned()),
        (r##"{"not":{"$ref":"#"}}"##.to_owned(), "1".to_owned()),
        (r#"{"uniqueItems":true}"#.to_owned(), format!("[{}]", (0..5000).map(|n| n.to_string()).collect::<Vec<_>>().join(","))),
        (
            format!(
                r##"{{"definitions":{{{}"d30":{{"type":"null"}}}},"$ref":"#/definitions/d0"}}"##,
                (0..30).map(|n| format!(
                    r##""d{n}":{{"anyOf":[{{"$ref":"#/definitions/d{0}"}},{{"$ref":"#/definitions/d{0}"}}]}},"##,
                    n + 1
                )).collect::<String>()
            ),
            "1".to_owned(),
        ),
    ];
    for (schema, message) in &complex {
        let result = Model::compile(schema).unwrap().validate(message);
        assert_eq!(result, Err(Misfit::TooComplex), "{schema:.60}");
    }
    // As long a chain of references as fits.
    let chain: String =
        (0..600).map(|n| format!(r##""{n}":{{"$ref":"#/definitions/{}"}},"##, n + 1)).collect();
    let schema = format!(r##"{{"definitions":{{{chain}"600":{{}}}},"$ref":"#/definitions/0"}}"##);
    assert_eq!(Model::compile(&schema).unwrap().validate("1"), Err(Misfit::TooComplex));
}

proptest! {
    #[test]
    fn nothing_panics(
        keyword in prop::sample::select(vec![
            "type", "enum", "items", "properties", "required", "pattern", "$ref", "allOf", "not", "dependencies", "minLength",
        ]),
        value in r#"[\[\]{}":,a-c0-9#/]{0,16}"#,
        message in r#"[\[\]{}":,a-c0-9]{0,16}"#,
    ) {
        if let Ok(model) = Model::compile(&format!(r#"{{"{keyword}":{value}}}"#)) {
            let _ = model.validate(&message);
        }
    }
}
