//! What a backend is told in the head of a request, and what a client cannot make it believe.

use crate::client::Client;
use crate::harness::{API_ID, Plane};

const FORGED: &str = "connectionid: forged\r\nCONNECTIONID: forged\r\nX-Code: forged\r\n\
    X-Forwarded-For: forged\r\nX-Forwarded-Proto: forged\r\nX-Forwarded-Port: forged\r\nX-Real-Ip: forged\r\n\
    X-Amzn-Trace-Id: forged\r\nX-Amzn-Apigateway-Api-Id: forged\r\nX-Amzn-Anything: forged\r\n\
    Forwarded: for=forged\r\nX-Own: kept\r\nCookie: a=1; b=2\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spelling_lengths_query_and_forgeries() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("?ws_token=a%20b&x=%C3%A9&x=2", FORGED)).await;
    assert_eq!(client.status().await, 101);
    client.send("hello").await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    plane.backend.events("DISCONNECT", 1).await;

    let requests = plane.backend.requests.all();
    assert_eq!(requests.len(), 3);
    let id = requests[0].id().to_owned();
    for request in &requests {
        // S0-23: a mapped header has the spelling of its mapping, and no other value than its own.
        let spelled: Vec<&str> = request
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("connectionid"))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(spelled, ["connectionId"]);
        assert_eq!(request.values("connectionid"), [id.as_str()]);
        // S0-24
        assert_eq!(request.values("content-length"), [request.body.len().to_string().as_str()]);
        assert!(request.values("transfer-encoding").is_empty());
        // S0-25
        assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.values("x-real-ip"), ["127.0.0.1"]);
        assert_eq!(request.values("x-forwarded-proto"), ["http"]);
        assert_eq!(request.values("x-amzn-apigateway-api-id"), [API_ID]);
        assert!(request.value("x-amzn-trace-id").starts_with("Root=1-"));
        let forged = request.headers.iter().find(|(_, value)| value.contains("forged"));
        assert_eq!(forged, None);
    }
    let [connect, message, disconnect] = &requests[..] else { unreachable!() };
    // S0-27: behind the query of the integration, encoded as it came, on `$connect` only.
    assert_eq!(connect.target, "/events?own=1&ws_token=a%20b&x=%C3%A9&x=2");
    assert_eq!(message.target, "/events?own=1");
    assert_eq!(disconnect.target, "/events?own=1");
    assert_eq!((connect.value("x-own"), connect.value("cookie")), ("kept", "a=1; b=2"));
    assert_eq!((message.value("x-own"), disconnect.value("x-own")), ("", ""));
    assert_eq!((connect.body.as_str(), disconnect.body.as_str()), ("", ""));
    assert!(connect.values("upgrade").is_empty());
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_line_always_has_a_path() {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    for (address, target) in [("", "/"), ("?own=1", "/?own=1"), ("/a%20b?", "/a%20b?")] {
        plane.publish(address);
        client.send(address).await;
        let is_its =
            |request: &crate::backend::Request| request.is_event("MESSAGE") && request.body == address;
        let found = plane.backend.requests.until("the message", 1, is_its).await;
        assert_eq!(found[0].target, target);
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_name_the_host_of_the_client_or_the_one_that_is_set() {
    // 0.4, `context.domain_name`
    for (set, told) in
        [(None, "localhost/_aws/execute-api/tide000001"), (Some("ws.example.com"), "ws.example.com")]
    {
        let plane = Plane::start_with(|settings| settings.context.domain_name = set.map(str::to_owned)).await;
        plane.deploy(&crate::harness::Deployed {
            headers: vec![("x-domain".to_owned(), "context.domainName".to_owned())],
            ..crate::harness::Deployed::default()
        });
        let mut client = plane.connect().await;
        client.send("hello").await;
        plane.backend.events("MESSAGE", 1).await;
        client.close(1000, "").await;
        plane.backend.events("DISCONNECT", 1).await;
        let domains: Vec<String> =
            plane.backend.requests.all().iter().map(|request| request.value("x-domain").to_owned()).collect();
        assert_eq!(domains, [told; 3]);
        plane.end().await;
    }
}
