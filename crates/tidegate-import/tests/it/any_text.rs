//! Whatever a file has in it: an answer or a refusal, and soon.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_import::{Format, LiveApi, Options, import, import_live};

use crate::template;

/// More than a slow machine needs for the largest texts here.
const SOON: Duration = Duration::from_secs(20);

fn try_all(text: &str) {
    let begin = Instant::now();
    for format in [Format::CloudFormation, Format::Serverless] {
        let _ = import(format, text, &Options::default());
    }
    assert!(begin.elapsed() < SOON, "{:?} for {} bytes", begin.elapsed(), text.len());
}

/// Pieces that mean something to one of the readers.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "Resources:\n",
        "  A:\n    Type: AWS::ApiGatewayV2::Api\n    Properties:\n",
        "      ProtocolType: WEBSOCKET\n",
        "      Name: ",
        "!Ref A",
        "!Sub ",
        "${A}",
        "${self:a}",
        "${A.B}",
        "!GetAtt A.B",
        "!Join ['', [",
        "]]",
        "&a ",
        "*a",
        "<<: ",
        "\n",
        "  ",
        "- ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "'",
        "\"",
        "|\n",
        ">\n",
        "#",
        "---\n",
        "...\n",
        "!!str ",
        "%YAML 1.2\n",
        "functions:\n",
        "  f:\n    events:\n      - websocket: $connect\n",
        "service: s\n",
        "${opt:stage, 'x'}",
        "${",
        "!If [A, ",
        "\t",
        "\r",
        "é",
        "😀",
        "\u{0}",
        "{{resolve:ssm:x}}",
        "Fn::FindInMap: [a, b, c]",
        "Conditions:\n",
        "  C: !Equals [a, !Ref A]\n",
    ];
    prop_oneof![
        9 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pieces_never_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        try_all(&pieces.concat());
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        try_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn changed_templates_never_panic(which in 0usize..4, begin in 0usize..6000, n in 0usize..80, with in piece()) {
        let names = ["sam-chat.yaml", "sam-websocket-api.yaml", "serverless-chat.yml", "cloudformation.yaml"];
        let text = template(names[which]);
        let mut chars: Vec<char> = text.chars().collect();
        let begin = begin.min(chars.len());
        let end = (begin + n).min(chars.len());
        chars.splice(begin..end, with.chars());
        try_all(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn answers_of_any_form_never_panic(text in "\\PC{0,20}", number in any::<i64>()) {
        let value = serde_json::json!({"apiId": text, "protocolType": "WEBSOCKET", "routeId": number, "stageName": [text],
            "tags": {"a": number}, "routeSettings": {"x": number, "y": {"z": text}}, "defaultRouteSettings": [1]});
        let live = LiveApi {
            api: value.clone(),
            routes: vec![value.clone(), serde_json::Value::Null],
            stages: vec![value.clone(), value],
            ..LiveApi::default()
        };
        let _ = import_live(&live);
    }
}

#[test]
fn large_and_nasty_texts_end_soon() {
    let many = |begin: &str, piece: &str, n: usize| format!("{begin}{}", piece.repeat(n));
    let mut doubling = "Resources:\n  A:\n    Type: AWS::ApiGatewayV2::Api\n    Properties:\n      ProtocolType: WEBSOCKET\n      Name: ".to_owned();
    for _ in 0..25 {
        doubling.push_str("{'Fn::Sub': ['${x}${x}${x}${x}${x}${x}${x}${x}', {x: ");
    }
    doubling.push('a');
    doubling.push_str(&"}]}".repeat(25));
    let references: String = (0..60)
        .map(|idx| format!("  F{idx}: {{Type: AWS::Lambda::Function, Properties: {{FunctionName: !Sub '${{F{0}}}${{F{0}}}'}}}}\n", idx + 1))
        .collect();
    let texts = [
        many("a: ", "[", 100_000),
        many("a: ", "{", 100_000),
        many("", "- ", 100_000),
        many("", "? ", 100_000),
        many("a:\n", " ", 500_000),
        many("", "a: &x [*x]\n", 20_000),
        many("", "key: value\n", 100_000),
        many("{", "a: b, ", 200_000),
        many("a: '", "''", 400_000),
        many("a: ", "${self:a}", 50_000),
        many("a: ", "${", 400_000),
        many("x: \"", "\\u0041", 100_000),
        many("", "#\n", 500_000),
        many("", "! ", 200_000),
        many("", "&a ", 200_000),
        (0..40_000).map(|idx| format!("k{idx}: &a{idx} v\n")).collect(),
        (0..40_000).map(|idx| format!("k{idx}: v\n")).collect(),
        format!(
            "Resources:\n{}",
            (0..8000).map(|idx| format!("  R{idx}: {{Type: AWS::X::Y}}\n")).collect::<String>()
        ),
        doubling,
        format!(
            "Resources:\n{references}  A: {{Type: AWS::ApiGatewayV2::Api, Properties: {{ProtocolType: WEBSOCKET, Name: !Ref F0}}}}\n"
        ),
    ];
    for text in &texts {
        try_all(text);
    }
}
