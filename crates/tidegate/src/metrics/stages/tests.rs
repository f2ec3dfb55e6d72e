use tidegate_core::definition::{Api, ApiDefinition, LiveApi, Route, RouteSettings, Stage};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::ClosedBy;

use super::*;

fn live(stages: &[(&str, bool, &[&str], usize)]) -> Live {
    let stages = stages.iter().map(|(name, is_detailed, detailed, n_routes)| {
        let setting =
            |is_on| RouteSettings { detailed_metrics_enabled: Some(is_on), ..RouteSettings::default() };
        let stage = Stage {
            stage_name: (*name).to_owned(),
            default_route_settings: setting(*is_detailed),
            route_settings: detailed.iter().map(|key| ((*key).to_owned(), setting(true))).collect(),
            ..Stage::default()
        };
        let keys = ["$connect", "$disconnect", "join", "leave"].map(str::to_owned).into_iter();
        let keys = keys.chain((0..*n_routes).map(|idx| format!("r{idx}")));
        let routes = keys.map(|route_key| Route { route_key, ..Route::default() }).collect();
        let deployment = ApiDefinition { routes, ..ApiDefinition::default() };
        LiveStage { stage, deployment: Some(Arc::new(deployment)), policy: None }
    });
    let api = Api { api_id: "abc".to_owned(), ..Api::default() };
    Live { apis: vec![Arc::new(LiveApi { api, stages: stages.collect() })], ..Live::default() }
}

fn place(stage: &str, route: Option<&str>) -> Place {
    Place { api_id: "abc".into(), stage: stage.into(), route_key: route.map(Into::into), ..Place::default() }
}

fn message(stage: &str, route: &str) -> Notice {
    Notice::MessageHandled {
        place: place(stage, Some(route)),
        size: 1,
        status: 200,
        dropped_reply: false,
        facts: Facts::none(),
        remark: None,
    }
}

fn failed(route: Option<&str>, code: ErrorCode) -> Notice {
    Notice::MessageFailed {
        place: place("prod", route),
        size: 1,
        code,
        diagnosis: code.row().diagnosis,
        detail: String::new(),
        facts: Facts::none(),
    }
}

fn called(route: &str, event_type: &'static str, status: Option<u16>, millis: u64) -> Notice {
    Notice::IntegrationCalled {
        place: place("prod", Some(route)),
        event_type,
        status,
        duration: Duration::from_millis(millis),
        facts: Facts::none(),
    }
}

fn page(stages: &Stages) -> String {
    let mut page = String::new();
    stages.write(&mut page);
    page
}

fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "{line}\n{page}");
    }
}

#[test]
fn counts_carry_api_stage_and_route() {
    // AG-28, S0-82
    let stages = Stages::new(vec![("chat".to_owned(), "live".to_owned())]);
    stages.set(&live(&[("prod", false, &["join"], 0), ("test", true, &[], 0)]));
    let refused = |stage: &str, code: ErrorCode| Notice::HandshakeRefused {
        place: place(stage, Some("$connect")),
        status: code.row().status,
        code,
        diagnosis: code.row().diagnosis,
        detail: String::new(),
        duration: Duration::ZERO,
        facts: Facts::none(),
    };
    for notice in [
        Notice::ConnectionOpened {
            place: place("prod", None),
            duration: Duration::ZERO,
            facts: Facts::none(),
        },
        refused("prod", ErrorCode::Throttled),
        refused("prod", ErrorCode::BackendRefused),
        refused("none", ErrorCode::Forbidden),
        message("prod", "join"),
        message("prod", "leave"),
        message("test", "leave"),
        failed(Some("leave"), ErrorCode::IntegrationTimeout),
        failed(None, ErrorCode::NoRoute),
        called("$connect", "CONNECT", Some(200), 3),
        called("$connect", "CONNECT", Some(403), 3),
        called("join", "MESSAGE", Some(503), 30_000),
        called("leave", "MESSAGE", None, 3),
        called("$disconnect", "DISCONNECT", None, 3),
    ] {
        stages.count(&notice);
    }
    let written = page(&stages);
    assert_lines(
        &written,
        &[
            "tidegate_stage_connections{api=\"abc\",stage=\"prod\"} 1",
            "tidegate_stage_connections{api=\"chat\",stage=\"live\"} 0",
            "tidegate_connects_total{api=\"abc\",stage=\"prod\",outcome=\"opened\"} 1",
            "tidegate_connects_total{api=\"abc\",stage=\"prod\",outcome=\"Throttled\"} 1",
            // The stage does not exist.
            "tidegate_connects_total{api=\"\",stage=\"\",outcome=\"Forbidden\"} 1",
            "tidegate_messages_total{api=\"abc\",stage=\"prod\",direction=\"in\"} 3",
            "tidegate_messages_total{api=\"abc\",stage=\"prod\",route=\"join\",direction=\"in\"} 1",
            "tidegate_messages_total{api=\"abc\",stage=\"test\",route=\"leave\",direction=\"in\"} 1",
            "tidegate_message_failures_total{api=\"abc\",stage=\"prod\",outcome=\"NoRoute\"} 1",
            "tidegate_connect_total{api=\"abc\",stage=\"prod\"} 2",
            "tidegate_client_errors_total{api=\"abc\",stage=\"prod\"} 2",
            "tidegate_execution_errors_total{api=\"abc\",stage=\"prod\"} 2",
            "tidegate_integration_errors_total{api=\"abc\",stage=\"prod\"} 1",
            "tidegate_integration_errors_total{api=\"abc\",stage=\"prod\",route=\"join\"} 1",
            "tidegate_integration_failures_total{api=\"abc\",stage=\"prod\",event=\"MESSAGE\"} 1",
            "tidegate_integration_duration_seconds_bucket{api=\"abc\",stage=\"prod\",event=\"CONNECT\",le=\"0.0025\"} 0",
            "tidegate_integration_duration_seconds_bucket{api=\"abc\",stage=\"prod\",event=\"CONNECT\",le=\"0.005\"} 2",
            "tidegate_integration_duration_seconds_sum{api=\"abc\",stage=\"prod\",event=\"CONNECT\"} 0.006",
            "tidegate_integration_duration_seconds_count{api=\"abc\",stage=\"prod\",event=\"CONNECT\"} 2",
            "tidegate_integration_duration_seconds_bucket{api=\"abc\",stage=\"prod\",route=\"join\",event=\"MESSAGE\",le=\"29\"} 0",
            "tidegate_integration_duration_seconds_bucket{api=\"abc\",stage=\"prod\",route=\"join\",event=\"MESSAGE\",le=\"+Inf\"} 1",
        ],
    );
    stages.count(&Notice::ConnectionClosed {
        place: place("prod", None),
        by: ClosedBy::Client,
        close_code: 1000,
        diagnosis: Diagnosis::CLOSE_BACKEND_REQUESTED,
        age: Duration::ZERO,
        messages_in: 3,
        messages_out: 7,
        bytes_in: 30,
        bytes_out: 70,
        facts: Facts::none(),
    });
    assert_lines(
        &page(&stages),
        &[
            "tidegate_stage_connections{api=\"abc\",stage=\"prod\"} 0",
            "tidegate_messages_total{api=\"abc\",stage=\"prod\",direction=\"out\"} 7",
            "tidegate_payload_bytes_total{api=\"abc\",stage=\"prod\",direction=\"in\"} 30",
            "tidegate_payload_bytes_total{api=\"abc\",stage=\"prod\",direction=\"out\"} 70",
        ],
    );
}

#[test]
fn series_are_those_of_what_is_defined() {
    // AG-28
    let stages = Stages::new(Vec::new());
    stages.set(&live(&[("prod", true, &[], 400)]));
    for idx in 0..400 {
        stages.count(&message("prod", &format!("r{idx}")));
    }
    let counted = page(&stages);
    let routes = counted
        .lines()
        .filter(|line| line.starts_with("tidegate_messages_total{") && line.contains("route="));
    assert!(routes.count() <= MAX_ROUTES);
    // Nothing is lost: what is over the cap is the stage's. Four of the cap are routes that got no message.
    assert_lines(&counted, &["tidegate_messages_total{api=\"abc\",stage=\"prod\",direction=\"in\"} 104"]);
    // A change keeps what was counted, and takes away what is gone.
    stages.set(&live(&[("prod", false, &["r1"], 400)]));
    assert_lines(
        &page(&stages),
        &["tidegate_messages_total{api=\"abc\",stage=\"prod\",route=\"r1\",direction=\"in\"} 1"],
    );
    assert!(!page(&stages).contains("route=\"r2\""));
    stages.set(&Live::default());
    assert!(!page(&stages).contains("abc"));
    stages.count(&message("prod", "r1"));
    assert_lines(&page(&stages), &["tidegate_messages_total{api=\"\",stage=\"\",direction=\"in\"} 1"]);
}
