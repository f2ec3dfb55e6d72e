//! How a refusal is said: one closed list of texts, by status or by close code.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use tidegate_core::app::{Refusal, Refused};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;

use crate::settings::{RefusalForm, Settings};

/// Close code of a rule that was broken.
pub const POLICY: u16 = 1008;

/// Close code of a fault of the server.
pub const FAULT: u16 = 1011;

/// Seconds after which a client may try again when somebody else has to be repaired first.
const RETRY_SECONDS: u64 = 5;

/// Refusals by close frame that an address gets in a minute. Clients that count an open connection as success would try
/// again for ever.
const CLOSES_A_MINUTE: u32 = 10;

/// Milliseconds of that minute. After too many an address is refused by status until it was quiet for so long: a client
/// that waits 32 s between its last two tries must not find the other form again.
const MINUTE_MS: u64 = 60_000;

/// Addresses that are counted; beyond, new ones are refused by status.
const MAX_ADDRESSES: usize = 10_000;

/// The forms of one configuration.
#[derive(Debug)]
pub struct Refusals {
    form: RefusalForm,
    role_text: String,
    user_text: String,
    closes: Mutex<HashMap<IpAddr, Closes>>,
}

/// Refusals of one address.
#[derive(Debug, Clone, Copy)]
struct Closes {
    /// When its minute began.
    since: u64,
    last: u64,
    count: u32,
}

/// A row of the table.
struct Row {
    status: u16,
    close_code: Option<u16>,
    text: Cow<'static, str>,
    retry_after: Option<u64>,
}

impl Refusals {
    /// Those of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self {
            form: settings.refusal,
            role_text: settings.role_text.clone(),
            user_text: settings.user_text.clone(),
            closes: Mutex::default(),
        }
    }

    /// Of the gateway's own checks; nothing for what no row of the table is about.
    pub fn of_gateway(&self, refused: &Refused<'_>) -> Option<Refusal> {
        let row = self.row(refused.diagnosis, refused.status, refused.facts, refused.now)?;
        let facts = Facts::none();
        Some(self.say(row, refused.diagnosis, facts, refused.address, refused.now, refused.is_dry_run))
    }

    /// Of the application's checks.
    pub fn own(
        &self,
        diagnosis: Diagnosis,
        facts: Facts,
        address: IpAddr,
        now: u64,
        is_dry_run: bool,
    ) -> Box<Refusal> {
        let row = self.row(diagnosis, 403, &facts, now).unwrap_or_else(unexpected);
        Box::new(self.say(row, diagnosis, facts, address, now, is_dry_run))
    }

    fn say(
        &self,
        row: Row,
        diagnosis: Diagnosis,
        facts: Facts,
        address: IpAddr,
        now: u64,
        is_dry_run: bool,
    ) -> Refusal {
        let mut refusal = Refusal::new(row.status, row.text, diagnosis);
        refusal.retry_after = row.retry_after;
        refusal.facts = facts;
        // Only what is really sent as a close is counted.
        let may_close = self.form == RefusalForm::Close && !is_dry_run && row.close_code.is_some();
        if may_close && self.may_close(network(address), now) {
            refusal.close_code = row.close_code;
        }
        refusal
    }

    fn may_close(&self, network: IpAddr, now: u64) -> bool {
        let mut closes = self.closes.lock();
        if closes.len() >= MAX_ADDRESSES && !closes.contains_key(&network) {
            closes.retain(|_, closes| now.saturating_sub(closes.last) < MINUTE_MS);
            if closes.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let known = closes.entry(network).or_insert(Closes { since: now, last: now, count: 0 });
        let is_quiet = now.saturating_sub(known.last) >= MINUTE_MS;
        let is_over = known.count >= CLOSES_A_MINUTE && !is_quiet;
        if !is_over && now.saturating_sub(known.since) >= MINUTE_MS {
            *known = Closes { since: now, last: now, count: 0 };
        }
        known.last = now;
        known.count = known.count.saturating_add(u32::from(!is_over));
        !is_over
    }

    fn row(&self, diagnosis: Diagnosis, status: u16, facts: &Facts, now: u64) -> Option<Row> {
        let by_code = |status, close_code, text: &'static str| {
            Some(Row { status, close_code: Some(close_code), text: text.into(), retry_after: None })
        };
        let later = |status, text: &'static str, seconds| {
            Some(Row { status, close_code: None, text: text.into(), retry_after: seconds })
        };
        let policy = |text| by_code(403, POLICY, text);
        match diagnosis {
            Diagnosis::ORIGIN_NOT_ALLOWED => policy("Origin not allowed"),
            Diagnosis::RATELIMIT_CONNECT => {
                later(429, "Too many connection attempts", seconds_left(facts, now))
            }
            Diagnosis::LIMIT_CONNECTIONS
            | Diagnosis::NODE_DRAINING
            | Diagnosis::JWT_JWKS_UNREACHABLE
            | Diagnosis::AUTH_NOT_CONFIGURED => later(503, "Service unavailable", Some(RETRY_SECONDS)),
            Diagnosis::JWT_MISSING | Diagnosis::JWT_WRONG_PLACE => policy("Missing token"),
            Diagnosis::JWT_MALFORMED
            | Diagnosis::JWT_TOO_LONG
            | Diagnosis::JWT_AMBIGUOUS
            | Diagnosis::JWT_ALG_NOT_ALLOWED
            | Diagnosis::JWT_UNKNOWN_KEY
            | Diagnosis::JWT_SIGNATURE
            | Diagnosis::JWT_ISSUER
            | Diagnosis::JWT_AUDIENCE => policy("Invalid token"),
            Diagnosis::JWT_EXPIRED => policy("Token expired"),
            Diagnosis::JWT_NOT_YET_VALID => policy("Token not yet valid"),
            Diagnosis::JWT_CLAIMS_MISSING => policy("Invalid token payload"),
            Diagnosis::ROLE_INSUFFICIENT | Diagnosis::ROLE_DEFAULTED => {
                let text = self.role_text.clone().into();
                Some(Row { status: 403, close_code: Some(POLICY), text, retry_after: None })
            }
            // Whether somebody is banned is not said.
            Diagnosis::CHANNEL_FORBIDDEN | Diagnosis::USER_BANNED => policy("Access denied"),
            Diagnosis::USER_NOT_FOUND | Diagnosis::USER_INACTIVE => {
                let text = self.user_text.clone().into();
                Some(Row { status: 403, close_code: Some(POLICY), text, retry_after: None })
            }
            Diagnosis::USER_CHECK_FAILED => {
                let row = by_code(503, FAULT, "User verification failed");
                row.map(|row| Row { retry_after: Some(RETRY_SECONDS), ..row })
            }
            Diagnosis::INTERNAL => Some(unexpected()),
            _ if status == 500 => Some(unexpected()),
            _ => None,
        }
    }
}

fn unexpected() -> Row {
    Row { status: 500, close_code: Some(FAULT), text: "Authentication failed".into(), retry_after: None }
}

/// Until the window ends. Where the facts do not say, the gateway's own header stays.
fn seconds_left(facts: &Facts, now: u64) -> Option<u64> {
    let resets_at = facts.number("resetAt")?;
    Some(resets_at.saturating_sub(now).div_ceil(1000).clamp(1, 86_400))
}

/// An IPv6 client has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}
