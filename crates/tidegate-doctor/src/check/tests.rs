//! Stories that rules are told, and what all rules must be silent about.

use super::*;

/// Start of every story, in microseconds since 1970: 2026-01-02T03:00:00Z.
pub(crate) const START: u64 = 1_767_322_800 * SECOND;

pub(crate) const API: &str = "chat000000";

/// Entries that are told one by one; times are milliseconds from the start.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) entries: Vec<Entry>,
    pub(crate) asked: Asked,
    /// Milliseconds from the start; 0 is a second after the last entry.
    pub(crate) now: u64,
}

/// An entry that is being told.
pub(crate) struct Told<'a>(pub(crate) &'a mut Entry);

impl Told<'_> {
    pub(crate) fn set(self, name: &str, value: impl Into<Value>) -> Self {
        self.0.facts.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn edit(self, edit: impl FnOnce(&mut Entry)) -> Self {
        edit(self.0);
        self
    }
}

impl Story {
    pub(crate) fn add(&mut self, at: u64, kind: Kind, outcome: Option<Diagnosis>) -> Told<'_> {
        let mut entry = Entry::new(START + at * MILLI, kind, outcome);
        entry.node = 1;
        entry.api_id = Some(API.to_owned());
        entry.stage = Some("prod".to_owned());
        self.entries.push(entry);
        Told(self.entries.last_mut().expect("it was just added"))
    }

    fn of(&mut self, at: u64, kind: Kind, id: &str, user: &str, outcome: Option<Diagnosis>) -> Told<'_> {
        let is_request = kind != Kind::Close;
        self.add(at, kind, outcome).edit(|entry| {
            entry.connection_id = Some(id.to_owned());
            entry.request_id = is_request.then(|| format!("r-{id}-{at}"));
            entry.user = Some(user.to_owned()).filter(|user| !user.is_empty());
        })
    }

    pub(crate) fn open(&mut self, at: u64, id: &str, user: &str) -> Told<'_> {
        let told = self.of(at, Kind::Handshake, id, user, None).set("status", 101);
        told.edit(|entry| entry.address = Some(format!("198.51.100.{}", user.len() % 250)))
    }

    pub(crate) fn refuse(&mut self, at: u64, id: &str, user: &str, why: Diagnosis, status: u16) -> Told<'_> {
        let told = self.of(at, Kind::Handshake, id, user, Some(why)).set("status", status);
        told.edit(|entry| entry.address = Some(format!("198.51.100.{}", user.len() % 250)))
    }

    pub(crate) fn close(&mut self, at: u64, id: &str, why: Diagnosis, by: &str, code: u16) -> Told<'_> {
        self.of(at, Kind::Close, id, "", Some(why)).set("by", by).set("closeCode", code)
    }

    pub(crate) fn post(&mut self, at: u64, id: &str, why: Option<Diagnosis>) -> Told<'_> {
        self.of(at, Kind::Post, id, "", why).set("target", "connection").set("caller", "AKIA")
    }

    pub(crate) fn call(&mut self, at: u64, id: &str, user: &str, route: &str, status: u16) -> Told<'_> {
        let told = self.of(at, Kind::Integration, id, user, None).set("status", status);
        told.edit(|entry| entry.route_key = Some(route.to_owned()))
    }

    pub(crate) fn message(
        &mut self,
        at: u64,
        id: &str,
        user: &str,
        route: &str,
        why: Option<Diagnosis>,
    ) -> Told<'_> {
        self.of(at, Kind::Message, id, user, why).edit(|entry| entry.route_key = Some(route.to_owned()))
    }

    pub(crate) fn control(&mut self, at: u64, what: &str, why: Option<Diagnosis>) -> Told<'_> {
        self.add(at, Kind::Control, why).set("what", what).set("actor", "gateway")
    }

    /// Asks about these causes.
    pub(crate) fn ask(&mut self, causes: &[Diagnosis]) {
        self.asked.causes.extend(causes);
    }

    pub(crate) fn now(&self) -> u64 {
        match self.now {
            0 => self.entries.iter().map(|entry| entry.ts).max().unwrap_or(START) + SECOND,
            now => START + now * MILLI,
        }
    }

    pub(crate) fn verdict(&mut self) -> Verdict {
        self.entries.sort_by_key(|entry| entry.ts);
        run(&Window::new(&self.entries, self.now(), START - DAY), &self.asked)
    }

    pub(crate) fn found(&mut self) -> Vec<Found> {
        self.verdict().found
    }
}

pub(crate) fn ids(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.finding.id.as_str()).collect()
}

/// Asserts that what is found is exactly this, each with its confidence.
pub(crate) fn assert_found(story: &mut Story, expected: &[(&str, Confidence)]) {
    let found = story.found();
    let found: Vec<_> =
        found.iter().map(|found| (found.finding.id.as_str(), found.finding.confidence)).collect();
    assert_eq!(found, expected);
}

/// Numbers that look random and are the same each time.
fn scatter(seed: u64) -> u64 {
    let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    value ^= value >> 29;
    value = value.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^ (value >> 32)
}

#[test]
fn a_thousand_ordinary_connections_are_nothing_to_talk_about() {
    // DX-2 DX-19: no rule fires on what is as it should be.
    let mut story = Story::default();
    story.control(0, "start", None);
    for n in 0..1000_u64 {
        let (at, age) = (1_000 + n * 3_000 + scatter(n) % 2_000, 20_000 + scatter(n + 7) % 3_000_000);
        let (id, user) = (format!("c{n}"), format!("user-{}", n % 700));
        let address = format!("203.0.{}.{}", n % 700 / 250, n % 700 % 250);
        story
            .open(at, &id, &user)
            .set("fingerprint", format!("{n:016x}"))
            .set("userAgent", "Mozilla/5.0 (X11; Linux x86_64)")
            .set("headerNames", serde_json::json!(["host", "cookie", "origin", "x-forwarded-for"]))
            .set("cookieNames", serde_json::json!(["sessionid"]))
            .set("peer", "10.0.0.5")
            .set("clientAddressTrusted", true)
            .edit(|entry| entry.address = Some(address.clone()));
        story
            .call(at, &id, &user, "$connect", 200)
            .set("target", "http://app:80/")
            .edit(|entry| entry.duration_ms = Some(12.0));
        for m in 0..scatter(n + 11) % 4 {
            story
                .call(at + 4_000 + m * 3_777, &id, &user, "send", 200)
                .edit(|entry| entry.duration_ms = Some(9.0));
            story.post(at + 4_100 + m * 3_777, &id, None).set("isJson", true).set("size", 100 + m);
        }
        let idle = scatter(n + 13) % 15_000;
        let (why, by, code) = match scatter(n + 17) % 10 {
            0 => (Diagnosis::CONN_RESET, "network", 1006),
            1 => (Diagnosis::CONN_PING_TIMEOUT, "network", 1006),
            2 => (Diagnosis::GONE_CLIENT_CLOSED, "client", 1000),
            _ => (Diagnosis::CLIENT_PAGE_LEFT, "client", 1001),
        };
        story
            .close(at + age, &id, why, by, code)
            .set("ageMs", age)
            .set("idleMs", idle)
            .set("messagesIn", 3 + n % 9)
            .set("messagesOut", 4)
            .edit(|entry| entry.user = Some(user.clone()));
        // One late post to each tenth: a backend hears of an end a moment later.
        if n % 10 == 3 {
            story
                .post(at + age + 40, &id, Some(Diagnosis::GONE_CLIENT_CLOSED))
                .set("isJson", true)
                .set("closedAt", time(START + (at + age) * MILLI));
        }
    }
    let verdict = story.verdict();
    assert_eq!(ids(&verdict.found), Vec::<&str>::new(), "{:#?}", verdict.found.first());
    assert!(verdict.excluded.is_empty());
}

#[test]
fn entries_of_an_attempt_come_together() {
    let mut story = Story::default();
    story
        .add(1, Kind::Jwt, None)
        .set("fingerprint", "f")
        .edit(|entry| entry.request_id = Some("r-a-2".to_owned()));
    story.open(2, "a", "ann");
    story.post(3, "a", None);
    story.post(4, "b", Some(Diagnosis::GONE_UNKNOWN_ID));
    let window = Window::new(&story.entries, START, START);
    let life = window.life("a").expect("a life");
    assert_eq!(life.entries, [0, 1, 2]);
    assert_eq!(window.text(life, "fingerprint"), Some("f"));
    assert_eq!(window.user(life), Some("ann"));
    assert_eq!(window.life("b").map(|life| (life.attempt, life.close)), Some((None, None)));
}

#[test]
fn constant_is_what_a_timer_does() {
    assert!(is_constant(&[2_000_000, 2_050_000, 2_300_000, 1_900_000]));
    assert!(!is_constant(&[2_000_000, 4_000_000, 8_000_000, 16_000_000]));
    assert!(!is_constant(&[]));
    assert_eq!((median(&[3, 1, 2]), median(&[])), (2, 0));
    assert_eq!(
        [span(90 * SECOND), span(1_500_000), span(3 * HOUR), span(5 * MINUTE)],
        ["90 s", "1.5 s", "3 h", "5 min"]
    );
}

#[test]
fn a_full_window_of_a_busy_gateway_is_read_in_seconds() {
    // DX-19: the most that one question reads, with every rule asked.
    let mut story = Story::default();
    for n in 0..12_000_u64 {
        let (id, user, at) = (format!("c{n}"), format!("user-{}", n % 3000), 1_000 + n * 30);
        story.open(at, &id, &user).set("fingerprint", format!("{n:016x}")).set("peer", "10.0.0.5");
        story
            .call(at + 1, &id, &user, "send", 200)
            .set("target", "http://app:80/")
            .edit(|entry| entry.duration_ms = Some(40.0));
        story.post(at + 2, &id, Some(Diagnosis::GONE_NETWORK)).set("size", 80);
        let told = story.close(at + 60_000, &id, Diagnosis::CONN_RESET, "network", 1006);
        told.set("ageMs", 60_000)
            .set("idleMs", scatter(n) % 600_000)
            .set("messagesIn", 2)
            .set("messagesOut", 2);
    }
    story.ask(&Diagnosis::all().map(|cause| cause.diagnosis).collect::<Vec<_>>());
    let begun = std::time::Instant::now();
    story.verdict();
    // Many times what it takes: this is about squares, not about percents.
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}
