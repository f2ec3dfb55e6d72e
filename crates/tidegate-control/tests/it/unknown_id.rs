//! Every operation with ids that do not exist: AG-24.

use serde_json::{Value, json};

use crate::harness::Harness;

/// Method, address, body, message. `{api}` and the like are ids that exist.
type Row = (&'static str, &'static str, Value, &'static str);

fn rows() -> Vec<Row> {
    let api = "Invalid API identifier specified nope";
    let stage = "Invalid stage identifier specified";
    let domain = "The domain name resource specified in the request was not found.";
    let mapping = "The api mapping resource specified in the request was not found.";
    let route = "Invalid Route identifier specified nope";
    let integration = "Invalid Integration identifier specified nope";
    let authorizer = json!({
        "name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:aws:lambda:x", "identitySource": [],
    });
    let mut rows: Vec<Row> = vec![
        ("GET", "/apis/nope", json!(null), api),
        ("PATCH", "/apis/nope", json!({}), api),
        ("DELETE", "/apis/nope", json!(null), api),
        ("GET", "/apis/nope/exports/OAS30", json!(null), api),
        ("DELETE", "/apis/nope/cors", json!(null), api),
        ("POST", "/apis/nope/authorizers", authorizer, api),
        ("POST", "/apis/nope/deployments", json!({}), api),
        ("POST", "/apis/nope/integrations", json!({"integrationType": "MOCK"}), api),
        ("POST", "/apis/nope/models", json!({"name": "m", "schema": "{}"}), api),
        ("POST", "/apis/nope/routes", json!({"routeKey": "a"}), api),
        ("POST", "/apis/nope/stages", json!({"stageName": "a"}), api),
        ("GET", "/apis/nope/models/nope/template", json!(null), api),
        ("GET", "/apis/{api}/models/nope/template", json!(null), "Invalid Model identifier specified nope"),
        ("GET", "/apis/nope/stages/prod", json!(null), api),
        ("DELETE", "/apis/nope/stages/{stage}/accesslogsettings", json!(null), api),
        ("DELETE", "/apis/{api}/stages/nope/accesslogsettings", json!(null), stage),
        ("DELETE", "/apis/{api}/stages/nope/routesettings/%24default", json!(null), stage),
        ("DELETE", "/apis/{api}/stages/nope/cache/authorizers", json!(null), stage),
        ("POST", "/apis/{api}/deployments", json!({"stageName": "nope"}), stage),
        ("DELETE", "/apis/nope/routes/nope/requestparameters/x", json!(null), api),
        ("DELETE", "/apis/{api}/routes/nope/requestparameters/x", json!(null), route),
        ("GET", "/apis/{api}/routes/nope/routeresponses", json!(null), route),
        ("POST", "/apis/{api}/routes/nope/routeresponses", json!({"routeResponseKey": "$default"}), route),
        ("GET", "/apis/{api}/integrations/nope/integrationresponses", json!(null), integration),
        (
            "POST",
            "/apis/{api}/integrations/nope/integrationresponses",
            json!({"integrationResponseKey": "$default"}),
            integration,
        ),
        ("POST", "/apis/{api}/routes", json!({"routeKey": "a", "target": "integrations/nope"}), integration),
        (
            "POST",
            "/apis/{api}/routes",
            json!({"routeKey": "$connect", "authorizationType": "CUSTOM", "authorizerId": "nope"}),
            "Invalid Authorizer identifier specified nope",
        ),
        (
            "POST",
            "/apis/{api}/stages",
            json!({"stageName": "a", "deploymentId": "nope"}),
            "Invalid Deployment identifier specified nope",
        ),
        (
            "PATCH",
            "/apis/{api}/stages/{stage}",
            json!({"deploymentId": "nope"}),
            "Invalid Deployment identifier specified nope",
        ),
        ("POST", "/domainnames/nope/apimappings", json!({"apiId": "{api}", "stage": "{stage}"}), domain),
        ("GET", "/domainnames/nope/apimappings", json!(null), domain),
        ("POST", "/domainnames/{domain}/apimappings", json!({"apiId": "nope", "stage": "{stage}"}), api),
        ("POST", "/domainnames/{domain}/apimappings", json!({"apiId": "{api}", "stage": "nope"}), stage),
        ("GET", "/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2Fnope", json!(null), api),
        ("POST", "/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2Fnope", json!({"tags": {}}), api),
        (
            "DELETE",
            "/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2Fnope?tagKeys=a",
            json!(null),
            api,
        ),
        ("GET", "/tags/arn:aws:apigateway:us-east-1::/apis/{api}/stages/nope", json!(null), stage),
        ("GET", "/tags/arn:aws:apigateway:us-east-1::/domainnames/nope", json!(null), domain),
    ];
    for list in ["authorizers", "deployments", "integrations", "models", "routes", "stages"] {
        let address = String::leak(format!("/apis/nope/{list}"));
        rows.push(("GET", address, json!(null), api));
    }
    for method in ["GET", "PATCH", "DELETE"] {
        let body = if method == "PATCH" { json!({}) } else { json!(null) };
        for (address, message) in [
            ("/apis/{api}/authorizers/nope", "Invalid Authorizer identifier specified nope"),
            ("/apis/{api}/deployments/nope", "Invalid Deployment identifier specified nope"),
            ("/apis/{api}/integrations/nope", integration),
            ("/apis/{api}/integrations/nope/integrationresponses/nope", integration),
            (
                "/apis/{api}/integrations/{integration}/integrationresponses/nope",
                "Invalid IntegrationResponse identifier specified nope",
            ),
            ("/apis/{api}/models/nope", "Invalid Model identifier specified nope"),
            ("/apis/{api}/routes/nope", route),
            ("/apis/{api}/routes/nope/routeresponses/nope", route),
            (
                "/apis/{api}/routes/{route}/routeresponses/nope",
                "Invalid RouteResponse identifier specified nope",
            ),
            ("/apis/{api}/stages/nope", stage),
            ("/apis/nope/routes/nope", api),
            ("/apis/nope/integrations/nope", api),
            ("/domainnames/nope", domain),
            ("/domainnames/nope/apimappings/nope", domain),
            ("/domainnames/{domain}/apimappings/nope", mapping),
            ("/vpclinks/nope", "Invalid VpcLink identifier specified nope"),
        ] {
            rows.push((method, address, body.clone(), message));
        }
    }
    rows
}

#[tokio::test]
async fn unknown_ids_are_not_found_with_their_texts() {
    let h = Harness::new().await;
    let api = h.api().await;
    let integration = h.integration(&api).await;
    let route = h.route(&api, "a-route").await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    let fill = |text: &str| {
        text.replace("{api}", &api)
            .replace("{integration}", &integration)
            .replace("{route}", &route)
            .replace("{stage}", "prod")
            .replace("{domain}", "ws.example.com")
    };
    let published = h.sink.count();
    let rows = rows();
    assert!(rows.len() > 80);
    for (method, address, body, message) in rows {
        let body: Value = serde_json::from_str(&fill(&body.to_string())).expect("JSON");
        let answer = h.call(method, &fill(address), body).await;
        assert_eq!(answer.error_type, "NotFoundException", "{method} {address}: {answer:?}");
        assert_eq!((answer.status, answer.text("message").as_str()), (404, message), "{method} {address}");
    }
    assert_eq!(h.sink.count(), published, "nothing has changed");
}

#[tokio::test]
async fn unknown_operations_are_not_found() {
    let h = Harness::new().await;
    let api = h.api().await;
    for (method, address) in [
        ("GET", "/nothing".to_owned()),
        ("PUT", "/vpclinks".to_owned()),
        ("POST", format!("/apis/{api}")),
        ("GET", format!("/apis/{api}/routes/a/b/c/d")),
        ("GET", format!("/apis/{api}/stages/prod/routesettings")),
        ("DELETE", format!("/apis/{api}/stages/prod/routesettings/")),
        ("GET", "/".to_owned()),
    ] {
        let answer = h.call(method, &address, Value::Null).await;
        let message = format!("No operation answers to {method} /v2{address}");
        answer.is_refused(404, "NotFoundException", &message);
    }
}
