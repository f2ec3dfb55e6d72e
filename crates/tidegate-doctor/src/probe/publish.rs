//! Probe 16, with `--publish-url`: does a message of the server reach every connection, or only those of one process?
//!
//! The operator names a request that makes the server send a message to all who listen. Several connections that are
//! alike are opened, the message is asked for several times, and it is noted which connections got it. Where a server with
//! several workers keeps its connections in each worker's memory, every message reaches the connections of one worker: sets
//! of connections that do not overlap. What the messages say is looked at for the marker only and never repeated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::{Ask, Endpoint, Event, Net, Request, Socket, Trouble, Upgrade};
use super::{Outcome, Run, facts};
use crate::report::{Confidence, Finding, Severity};

/// Connections that are opened. With two workers one of 128 runs has all of them at one.
const CONNECTIONS: usize = 8;

/// Fewer tell nothing.
const MIN_CONNECTIONS: usize = 4;

/// Messages that are asked for at a time.
const MESSAGES: usize = 6;

/// How often that many are asked for, as long as all of them went to the same connections.
const ROUNDS: usize = 2;

/// Seconds without a message after which none comes any more.
const QUIET: f64 = 1.5;

/// Seconds for what a server says when somebody has subscribed.
const SETTLE: f64 = 0.4;

/// Seconds that this probe may take beside its requests.
pub(super) const HELD_SECONDS: u32 = 40;

/// Between two looks at the connections.
const LOOK: Duration = Duration::from_millis(20);

/// Between two requests, and two connections. What comes at once is taken by one worker, whichever wakes first.
const APART: Duration = Duration::from_millis(25);

/// Stands for a word that differs from message to message, in address and body of the request.
const MARKER: &str = "{marker}";

/// The request that makes a server send a message, and what makes a connection get it.
#[derive(Clone, Default)]
pub struct PublishRequest {
    /// Address; `{marker}` stands for a word that differs each time, here and in the body.
    pub url: String,
    /// Body; may be empty.
    pub body: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// What each connection sends first.
    pub subscribe: Option<String>,
}

impl std::fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers and body carry secrets.
        f.debug_struct("PublishRequest").field("url", &super::masked(&self.url)).finish_non_exhaustive()
    }
}

impl PublishRequest {
    fn is_marked(&self) -> bool {
        self.url.contains(MARKER) || self.body.contains(MARKER)
    }

    /// As it is sent, and where to.
    fn request(&self, marker: &str) -> Option<(::url::Url, Request)> {
        let url = ::url::Url::parse(&self.url.replace(MARKER, marker)).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let target = url[::url::Position::BeforePath..::url::Position::AfterQuery].to_owned();
        let body = self.body.replace(MARKER, marker);
        let content_type = match body.trim_start().starts_with(['{', '[']) {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        };
        let mut headers = self.headers.clone();
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !body.is_empty() && !has_type {
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        Some((url, Request { method: "POST", target, headers, body: body.into_bytes() }))
    }
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(publish) = run.options.publish.clone() else { return Outcome::skipped("no --publish-url") };
    if run.is_single_use() {
        return Outcome::skipped("a token for one connection cannot be used again");
    }
    if run.opening.as_ref().is_some_and(|opening| opening.status != Some(101)) {
        return Outcome::skipped("the handshake does not open");
    }
    let Some((url, _)) = publish.request("") else {
        outcome.inconclusive("--publish-url is no http:// or https:// address");
        return outcome;
    };
    let (Some(endpoint), Some(ask)) = (run.endpoint(), run.ask()) else { return outcome };
    let Some(publisher) = run.other_endpoint(&url).await else {
        outcome.inconclusive("the host of --publish-url does not resolve");
        return outcome;
    };
    (run.progress)(&format!(
        "publish: {CONNECTIONS} connections, {MESSAGES} to {} messages",
        MESSAGES * ROUNDS
    ));
    // A budget of its own: the operator has asked for these.
    let net = Arc::new(Net::new(
        run.options.roots.clone(),
        super::user_agent(),
        run.options.timeout,
        run.options.surroundings.connect_timeout,
    ));
    let second = run.options.surroundings.second;
    let mut listeners = Listeners::open(&net, &endpoint, &ask, second).await;
    listeners.subscribe(publish.subscribe.as_deref()).await;
    let asked = rounds(&net, &publisher, &publish, &mut listeners).await;
    let told = listeners.close().await;
    let (requests, connections) = net.spent();
    run.further = (run.further.0 + requests, run.further.1 + connections);
    outcome.measure("connections", told.n_open);
    match asked {
        Err(reason) => outcome.inconclusive(reason),
        Ok(messages) => {
            let reached: Vec<BTreeSet<usize>> =
                messages.iter().map(|reached| reached.intersection(&told.open).copied().collect()).collect();
            outcome.measure("messages", reached.len());
            outcome.measure("reached", json!(reached));
            judge(run, &mut outcome, told.n_open, &reached, told.n_binary);
        }
    }
    outcome
}

/// Asks for messages until they went to different connections, or as often as may be. For each message, who got it.
async fn rounds(
    net: &Arc<Net>,
    publisher: &Endpoint,
    publish: &PublishRequest,
    listeners: &mut Listeners,
) -> Result<Vec<BTreeSet<usize>>, String> {
    let n_open = listeners.n_open();
    if n_open < MIN_CONNECTIONS {
        return Err(format!("only {n_open} of {CONNECTIONS} connections are open"));
    }
    let word = nonce().ok_or("this machine gives no random bytes")?;
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let markers: Vec<String> =
            (0..MESSAGES).map(|n| format!("tidegate-{word}-{}-", round * MESSAGES + n)).collect();
        if publish.is_marked() {
            all.extend(listeners.marked(net, publisher, publish, markers).await?);
        } else {
            for marker in &markers {
                all.push(listeners.unmarked(net, publisher, publish, marker).await?);
            }
        }
        let is_settled = !matches!(Pattern::of(listeners.n_open(), &all), Pattern::OneGroup(_));
        if is_settled {
            break;
        }
    }
    Ok(all)
}

/// Eight hexadecimal digits.
fn nonce() -> Option<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

/// One request; an error says why nothing follows from it.
async fn ask_for(
    net: &Net,
    publisher: &Endpoint,
    publish: &PublishRequest,
    marker: &str,
) -> Result<(), String> {
    let Some((_, request)) = publish.request(marker) else { return Err("no address".to_owned()) };
    match net.send(publisher, &request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("the request of --publish-url is answered with {}", answer.status)),
        Err(Trouble::Budget) => Err("the run has used up its requests".to_owned()),
        Err(trouble) => Err(format!("the request of --publish-url: {trouble}")),
    }
}

/// The connections that listen.
struct Listeners {
    sockets: Vec<Option<Box<Socket>>>,
    second: Duration,
    n_binary: usize,
}

/// How the connections ended up.
struct Told {
    open: BTreeSet<usize>,
    n_open: usize,
    n_binary: usize,
}

impl Listeners {
    async fn open(net: &Arc<Net>, endpoint: &Endpoint, ask: &Ask, second: Duration) -> Self {
        let mut sockets = Vec::new();
        // Who refuses one refuses the others.
        if let Upgrade::Open(first) = net.upgrade(endpoint, ask).await {
            sockets.push(Some(first));
            let mut opening = JoinSet::new();
            for _ in 1..CONNECTIONS {
                let (net, endpoint, ask) = (Arc::clone(net), endpoint.clone(), ask.clone());
                opening.spawn(async move { net.upgrade(&endpoint, &ask).await });
                tokio::time::sleep(APART).await;
            }
            for opened in opening.join_all().await {
                if let Upgrade::Open(socket) = opened {
                    sockets.push(Some(socket));
                }
            }
        }
        Self { sockets, second, n_binary: 0 }
    }

    fn n_open(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    fn span(&self, seconds: f64) -> Duration {
        self.second.mul_f64(seconds)
    }

    async fn subscribe(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            for socket in &mut self.sockets {
                if let Some(open) = socket
                    && !open.text(text).await
                {
                    *socket = None;
                }
            }
        }
        self.settle().await;
    }

    /// Reads what comes until nothing does. False: it does not end.
    async fn settle(&mut self) -> bool {
        let (started, quiet) = (Instant::now(), self.span(SETTLE));
        let mut last = started;
        while started.elapsed() < quiet * 8 {
            if self.look(&mut |_, _| {}).await {
                last = Instant::now();
            } else if last.elapsed() >= quiet {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Reads what has come; true where that was something. Connections that have ended are forgotten.
    async fn look(&mut self, got: &mut (dyn FnMut(usize, Option<&str>) + Send)) -> bool {
        let mut has_come = false;
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            let Some(open) = socket else { continue };
            // What has come already is taken; nothing is waited for.
            loop {
                match open.next(Instant::now()).await {
                    Event::Text(text) => got(at, Some(&text)),
                    Event::Binary(_) => {
                        self.n_binary += 1;
                        got(at, None);
                    }
                    Event::Pong => {}
                    Event::Nothing => break,
                    _ => {
                        *socket = None;
                        break;
                    }
                }
                has_come = true;
            }
        }
        has_come
    }

    /// One message that looks like every other one: whatever comes now is it.
    async fn unmarked(
        &mut self,
        net: &Net,
        publisher: &Endpoint,
        publish: &PublishRequest,
        marker: &str,
    ) -> Result<BTreeSet<usize>, String> {
        if !self.settle().await {
            return Err(format!(
                "the connections get messages of others all the time: put {MARKER} into --publish-body, and doctor looks for its own"
            ));
        }
        ask_for(net, publisher, publish, marker).await?;
        let mut reached = BTreeSet::new();
        let mut last = Instant::now();
        while reached.len() < self.n_open() && last.elapsed() < self.span(QUIET) {
            let before = reached.len();
            self.look(&mut |at, _| {
                reached.insert(at);
            })
            .await;
            if reached.len() > before {
                last = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(reached)
    }

    /// Several messages at a time, which are told apart by their markers.
    async fn marked(
        &mut self,
        net: &Arc<Net>,
        publisher: &Endpoint,
        publish: &PublishRequest,
        markers: Vec<String>,
    ) -> Result<Vec<BTreeSet<usize>>, String> {
        let mut reached = vec![BTreeSet::new(); markers.len()];
        let mut asking = JoinSet::new();
        for marker in &markers {
            let (net, publisher) = (Arc::clone(net), publisher.clone());
            let (publish, marker) = (publish.clone(), marker.clone());
            asking.spawn(async move { ask_for(&net, &publisher, &publish, &marker).await });
            tokio::time::sleep(APART).await;
        }
        for asked in asking.join_all().await {
            asked?;
        }
        let mut last = Instant::now();
        let count = |reached: &[BTreeSet<usize>]| reached.iter().map(BTreeSet::len).sum::<usize>();
        while count(&reached) < self.n_open() * markers.len() && last.elapsed() < self.span(QUIET) {
            let before = count(&reached);
            self.look(&mut |at, text| {
                let Some(text) = text else { return };
                for (marker, reached) in markers.iter().zip(&mut reached) {
                    if text.contains(marker) {
                        reached.insert(at);
                    }
                }
            })
            .await;
            if count(&reached) > before {
                last = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(reached)
    }

    async fn close(self) -> Told {
        let open: BTreeSet<usize> =
            (0..self.sockets.len()).filter(|at| self.sockets[*at].is_some()).collect();
        let mut closing = JoinSet::new();
        for socket in self.sockets.into_iter().flatten() {
            closing.spawn(socket.close());
        }
        closing.join_all().await;
        Told { n_open: open.len(), open, n_binary: self.n_binary }
    }
}

/// Who got the messages.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    All,
    Nobody,
    /// Sets of connections that do not overlap; each message reached one of them, or nobody.
    Groups(Vec<BTreeSet<usize>>),
    /// Always the same ones, or nobody.
    OneGroup(BTreeSet<usize>),
    /// Sets that overlap.
    Mixed,
}

impl Pattern {
    fn of(n_open: usize, messages: &[BTreeSet<usize>]) -> Self {
        if messages.iter().all(|reached| reached.len() == n_open) {
            return Self::All;
        }
        let mut groups: Vec<BTreeSet<usize>> = Vec::new();
        for reached in messages.iter().filter(|reached| !reached.is_empty()) {
            if groups.contains(reached) {
                continue;
            }
            if groups.iter().any(|known| !known.is_disjoint(reached)) {
                return Self::Mixed;
            }
            groups.push(reached.clone());
        }
        match groups.len() {
            0 => Self::Nobody,
            1 => Self::OneGroup(groups.remove(0)),
            _ => Self::Groups(groups),
        }
    }
}

fn judge(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    n_open: usize,
    messages: &[BTreeSet<usize>],
    n_binary: usize,
) {
    if n_open < MIN_CONNECTIONS {
        outcome.inconclusive(format!("only {n_open} connections stayed open"));
        return;
    }
    let n_messages = messages.len();
    let (text, confidence, groups) = match Pattern::of(n_open, messages) {
        Pattern::All => {
            outcome.summary(format!("each of {n_messages} messages reached all {n_open} connections"));
            return;
        }
        Pattern::Nobody => {
            let binary = match n_binary {
                0 => "",
                _ => "; binary messages came, in which no marker is looked for",
            };
            outcome.inconclusive(format!(
                "none of {n_messages} messages reached any of {n_open} connections: they do not listen to it (--subscribe), or nothing is sent{binary}"
            ));
            return;
        }
        Pattern::Mixed => {
            outcome.inconclusive(format!(
                "{n_messages} messages reached some of {n_open} connections, in no pattern: messages are lost"
            ));
            return;
        }
        // A gateway that shares nothing with others has one memory; what is missing there is something else.
        _ if run.is_at_tidegate() => {
            outcome.inconclusive(format!(
                "not all of {n_open} connections got each of {n_messages} messages: `tidegate explain publish.partial-cluster`"
            ));
            return;
        }
        Pattern::Groups(groups) => {
            let sizes: Vec<String> = groups.iter().map(|group| group.len().to_string()).collect();
            let text = format!(
                "{n_open} connections that are alike, {n_messages} messages: each reached one of {} groups, of {} connections, and never two of them.",
                groups.len(),
                sizes.join(" and ")
            );
            (text, Confidence::Likely, groups)
        }
        Pattern::OneGroup(group) => {
            let text = format!(
                "{n_open} connections that are alike, {n_messages} messages: only the same {} of them ever got one.",
                group.len()
            );
            (text, Confidence::Possible, vec![group])
        }
    };
    let known = facts([
        ("connections", n_open.into()),
        ("messages", n_messages.into()),
        ("groups", json!(groups)),
        ("reached", json!(messages)),
    ]);
    let severity = if confidence == Confidence::Likely { Severity::Problem } else { Severity::Warning };
    run.add(
        Finding::new(Diagnosis::PUBLISH_SINGLE_PROCESS, severity, confidence)
            .seen(text, known)
            .fix_first("Start the server with one worker and look again: if everybody gets everything then, this was it.")
            .next(run.again_with("--only publish --publish-url URL --publish-body '{marker}'")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(n_open: usize, messages: &[&[usize]]) -> Pattern {
        let sets: Vec<BTreeSet<usize>> =
            messages.iter().map(|reached| reached.iter().copied().collect()).collect();
        Pattern::of(n_open, &sets)
    }

    #[test]
    fn groups_that_do_not_overlap_are_workers() {
        // publish.single-process
        let set = |members: &[usize]| members.iter().copied().collect::<BTreeSet<usize>>();
        assert_eq!(pattern(4, &[&[0, 1, 2, 3], &[0, 1, 2, 3]]), Pattern::All);
        assert_eq!(pattern(4, &[&[], &[]]), Pattern::Nobody);
        assert_eq!(
            pattern(4, &[&[0, 2], &[1], &[0, 2], &[], &[3]]),
            Pattern::Groups(vec![set(&[0, 2]), set(&[1]), set(&[3])])
        );
        assert_eq!(pattern(4, &[&[1, 3], &[1, 3], &[]]), Pattern::OneGroup(set(&[1, 3])));
        // All or nobody: it may be lost, or all connections are at one worker.
        assert_eq!(pattern(2, &[&[0, 1], &[]]), Pattern::OneGroup(set(&[0, 1])));
        // A message that one connection missed once is no group.
        assert_eq!(pattern(4, &[&[0, 1, 2, 3], &[0, 1, 3]]), Pattern::Mixed);
        assert_eq!(pattern(4, &[&[0, 1], &[1, 2]]), Pattern::Mixed);
    }

    #[test]
    fn requests_are_marked_and_keep_their_secrets() {
        // DX-64
        let publish = PublishRequest {
            url: "https://h.example:1/p?key=secret&m={marker}".to_owned(),
            body: r#"{"text":"{marker}"}"#.to_owned(),
            headers: vec![("Authorization".to_owned(), "Bearer secret".to_owned())],
            subscribe: None,
        };
        assert!(publish.is_marked() && !format!("{publish:?}").contains("secret"));
        let (url, request) = publish.request("m1-").unwrap();
        assert_eq!((url.port(), request.target.as_str()), (Some(1), "/p?key=secret&m=m1-"));
        assert_eq!(request.body, br#"{"text":"m1-"}"#);
        assert_eq!(request.headers[1], ("Content-Type".to_owned(), "application/json".to_owned()));
        let plain = PublishRequest { url: "http://h/p".to_owned(), ..PublishRequest::default() };
        assert!(!plain.is_marked() && plain.request("x").unwrap().1.headers.is_empty());
        for bad in ["ws://h/p", "h/p", ""] {
            assert!(PublishRequest { url: bad.to_owned(), ..plain.clone() }.request("x").is_none(), "{bad}");
        }
    }
}
