//! The manual's chapter on failures, as markdown: one page for each symptom, close code and status, and indexes.
//!
//! `cargo run -p tidegate-doctor --example manual` (or `make manual`) writes it; a test compares what is written.

use std::fmt::Write as _;

use tidegate_core::diagnosis::search::{
    self, CLOSE_CODES, CloseCode, STATUSES, SYMPTOMS, Status, Symptom, causes_of, close_code, status,
};
use tidegate_core::diagnosis::{Cause, Diagnosis};

use super::{commands, seen_in_words};

/// A page of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Below `docs/src/troubleshooting/`.
    pub file: String,
    /// In the table of contents.
    pub title: String,
    /// Markdown.
    pub text: String,
}

/// File names of the pages of symptoms: the words that people search for.
const SLUGS: [&str; 38] = [
    "websocket-connection-failed",
    "dns-network-tls-certificate-errors",
    "403-api-stage-not-deployed",
    "websocket-behind-nginx-proxy-load-balancer-cdn",
    "wrong-server-answers-uvicorn-daphne-gunicorn",
    "mixed-content-csp-opens-twice",
    "sec-websocket-protocol-subprotocol-mismatch",
    "jwt-invalid-token-token-expired",
    "access-denied-role-required-origin-not-allowed",
    "authorizer-401-403-500",
    "token-endpoint-403-csrf",
    "invalid-or-expired-token",
    "backend-400-invalid-request-headers",
    "backend-unreachable-timeout-502-504",
    "429-too-many-requests-rate-limit-exceeded",
    "websocket-closes-immediately",
    "anonymous-user-cookie-not-sent",
    "permission-denied-on-a-message",
    "default-handler-for-every-message",
    "custom-route-not-called",
    "no-response-to-a-message",
    "message-too-large-invalid-frame",
    "pushed-message-not-received",
    "broadcast-reaches-only-some-clients",
    "410-goneexception",
    "management-api-403-signature",
    "chat-errors-4001-4006",
    "idle-timeout-60-seconds",
    "closes-after-2-hours-or-on-restart",
    "random-disconnects-1006",
    "client-does-not-reconnect",
    "localhost-and-tunnels",
    "custom-domain-does-not-work",
    "creating-or-deploying-fails",
    "management-command-fails",
    "stale-sessions-cleanup",
    "too-many-open-files-capacity",
    "no-logs-or-secrets-in-logs",
];

/// Page of the causes that belong to no symptom.
const OTHERS: &str = "other-refusals";

/// Close codes that share a page.
const CHAT_CODES: std::ops::RangeInclusive<u16> = 4002..=4006;

/// Statuses that share a page, by its first.
const SHARED_STATUSES: [&[u16]; 2] = [&[301, 302, 307, 308], &[413, 414, 431]];

/// Line with which the chapter begins in the table of contents.
const CHAPTER: &str = "- [Troubleshooting](troubleshooting/README.md)";

/// Heading of the generated part of the page on close codes.
const CODES_HEADING: &str = "## What clients see, and why";

/// All pages, in the order of the table of contents; the first is the index.
pub fn manual_pages() -> Vec<Page> {
    let mut pages = vec![index_page()];
    pages.extend(SYMPTOMS.iter().map(symptom_page));
    pages.push(others_page());
    pages.extend(CLOSE_CODES.iter().filter(|row| !CHAT_CODES.contains(&row.code)).map(close_code_page));
    pages.extend(chat_codes_page());
    pages.extend(STATUSES.iter().filter(|row| leads_page(row.status)).map(status_page));
    pages.push(texts_page());
    pages.push(ids_page());
    pages
}

/// The chapter in `SUMMARY.md`.
pub fn summary_section() -> String {
    let mut out = format!("{CHAPTER}\n");
    for page in manual_pages().iter().skip(1) {
        let _ = writeln!(out, "  - [{}](troubleshooting/{})", page.title, page.file);
    }
    out
}

/// `SUMMARY.md` with the present chapter in place of an earlier one, or at its end.
pub fn with_section(summary: &str) -> String {
    let mut out = String::new();
    let mut lines = summary.lines().peekable();
    let mut is_written = false;
    while let Some(line) = lines.next() {
        if line == CHAPTER {
            while lines.next_if(|line| line.starts_with(' ')).is_some() {}
            out.push_str(&summary_section());
            is_written = true;
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    if !is_written {
        out.push_str(&summary_section());
    }
    out
}

/// `close-codes.md` with the present table of causes in place of an earlier one, at its end.
pub fn close_code_section(page: &str) -> String {
    let hand_written = page.split(CODES_HEADING).next().unwrap_or_default().trim_end();
    let mut out = format!(
        "{hand_written}\n\n{CODES_HEADING}\n\n| code | sent by | meaning | causes |\n| --- | --- | --- | --- |\n"
    );
    for row in CLOSE_CODES {
        let file = close_code_file(row.code);
        let n = row.all_causes().len();
        let causes = if n == 1 { "1 cause".to_owned() } else { format!("{n} causes") };
        let _ = writeln!(
            out,
            "| {} | {} | {} | [{causes}](troubleshooting/{file}) |",
            row.code,
            cell(row.sent_by),
            cell(row.meaning)
        );
    }
    out
}

/// Is this the status that its page is called by?
fn leads_page(status: u16) -> bool {
    !SHARED_STATUSES.iter().any(|shared| shared.iter().skip(1).any(|other| *other == status))
}

fn symptom_file(number: u8) -> String {
    let slug = usize::from(number).checked_sub(1).and_then(|i| SLUGS.get(i)).copied().unwrap_or(OTHERS);
    format!("{slug}.md")
}

fn close_code_file(code: u16) -> String {
    match CHAT_CODES.contains(&code) {
        true => format!("close-codes-{}-{}.md", CHAT_CODES.start(), CHAT_CODES.end()),
        false => format!("close-code-{code}.md"),
    }
}

fn status_file(status: u16) -> String {
    let shared = SHARED_STATUSES.iter().find(|shared| shared.contains(&status));
    let first = shared.and_then(|shared| shared.first()).copied().unwrap_or(status);
    format!("status-{first}.md")
}

/// A link from the page `here` to a cause on the page of its symptom.
fn link(cause: &Cause, here: &str) -> String {
    let title = cause.title.trim_end_matches('.');
    let file = symptom_file(cause.symptom);
    // A link within a page needs no file, and stays right when the page is renamed.
    let file = if file == here { "" } else { &file };
    format!("[{title}]({file}#{})", anchor(cause.diagnosis))
}

fn anchor(diagnosis: Diagnosis) -> String {
    diagnosis.as_str().replace('.', "-")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn list(out: &mut String, causes: &[Diagnosis], here: &str) {
    for diagnosis in causes {
        let _ = writeln!(out, "1. {} (`{diagnosis}`)", link(diagnosis.describe(), here));
    }
}

fn symptom_page(symptom: &Symptom) -> Page {
    let file = symptom_file(symptom.number);
    let words: Vec<_> = symptom.words.iter().map(|word| format!("\"{word}\"")).collect();
    let mut text = format!("# {}\n\nAlso called: {}.\n\n", symptom.title, words.join(", "));
    let own: Vec<&Cause> = Diagnosis::all().filter(|cause| cause.symptom == symptom.number).collect();
    text.push_str(
        "`tidegate explain --last` shows what the gateway saw of the latest failures, \
         `tidegate explain ID` what it saw of one request or connection. If it saw nothing, the attempt never arrived: \
         run `tidegate doctor URL`.\n\n",
    );
    let causes = causes_of(symptom.number);
    list(&mut text, &causes, &file);
    text.push('\n');
    cause_sections(&mut text, &own);
    Page { file, title: symptom.title.to_owned(), text: trimmed(text) }
}

fn others_page() -> Page {
    let title = "Other refusals and warnings".to_owned();
    let own: Vec<&Cause> = Diagnosis::all().filter(|cause| cause.symptom == 0).collect();
    let mut text = format!("# {title}\n\nCauses that belong to none of the other pages.\n\n");
    let file = symptom_file(0);
    list(&mut text, &own.iter().map(|cause| cause.diagnosis).collect::<Vec<_>>(), &file);
    text.push('\n');
    cause_sections(&mut text, &own);
    Page { file, title, text: trimmed(text) }
}

fn cause_sections(out: &mut String, causes: &[&Cause]) {
    for cause in causes {
        let _ = writeln!(out, "<a id=\"{}\"></a>\n", anchor(cause.diagnosis));
        let _ = writeln!(out, "## {}\n", cause.title.trim_end_matches('.'));
        let _ = writeln!(out, "{}\n", cause.cause);
        let _ = writeln!(out, "- **How to tell:** {}", cause.proof);
        let _ = writeln!(out, "- **Seen by:** {}", seen_in_words(cause));
        let _ = writeln!(out, "- **What the client sees:** {}", cause.client);
        let _ = writeln!(out, "- **What to do:** {}", cause.fix);
        let _ = writeln!(out, "- **Diagnosis:** `{}`{}\n", cause.diagnosis, aliases(cause.diagnosis));
        let commands = commands(cause);
        if !commands.is_empty() {
            let _ = writeln!(out, "```sh\n{}\n```\n", commands.join("\n"));
        }
    }
}

fn aliases(diagnosis: Diagnosis) -> String {
    let names: Vec<_> = search::aliases_of(diagnosis).map(|alias| format!("`{alias}`")).collect();
    if names.is_empty() { String::new() } else { format!(", also {}", names.join(", ")) }
}

fn close_code_page(row: &CloseCode) -> Page {
    let title = format!("Close code {}", row.code);
    let mut text = format!("# WebSocket close code {}\n\n", row.code);
    let _ = writeln!(text, "It means: {}.\n\nWho sends it: {}.\n", row.meaning, row.sent_by);
    if !row.never_opened.is_empty() {
        text.push_str(
            "Browsers also show it for a handshake that was refused, whatever its status was. First find out whether \
             the connection had opened (was there an `open` event?).\n\n",
        );
        let _ = writeln!(
            text,
            "## It never opened\n\nA browser hides the reason; these pages have the causes:\n"
        );
        for symptom in row.never_opened {
            let _ = writeln!(text, "- {}", symptom_link(*symptom));
        }
        text.push_str("\n## It had opened\n\n");
    }
    list(&mut text, &row.causes_after_open(), "");
    let _ = writeln!(text, "\n```sh\ntidegate explain {}\n```", row.code);
    Page { file: close_code_file(row.code), title, text: trimmed(text) }
}

fn chat_codes_page() -> Option<Page> {
    let rows: Vec<_> = CHAT_CODES.filter_map(close_code).collect();
    let first = rows.first()?;
    let title = format!("Close codes {} to {}", CHAT_CODES.start(), CHAT_CODES.end());
    let mut text = format!("# WebSocket {}\n\n", title.to_lowercase());
    text.push_str(
        "The chat sends these codes in error messages on an open connection. As close codes they come from another \
         server than this gateway.\n\n| code | meaning |\n| --- | --- |\n",
    );
    for row in &rows {
        let _ = writeln!(text, "| {} | {} |", row.code, cell(row.meaning));
    }
    text.push('\n');
    for symptom in first.symptoms.iter().chain(first.never_opened) {
        let _ = writeln!(text, "- {}", symptom_link(*symptom));
    }
    let _ = writeln!(text, "\n```sh\ntidegate explain {}\n```", first.code);
    Some(Page { file: close_code_file(first.code), title, text: trimmed(text) })
}

fn status_page(row: &Status) -> Page {
    let shared = SHARED_STATUSES.iter().find(|shared| shared.contains(&row.status));
    let rows: Vec<&Status> = match shared {
        Some(shared) => shared.iter().copied().filter_map(status).collect(),
        None => vec![row],
    };
    let numbers: Vec<_> = rows.iter().map(|row| row.status.to_string()).collect();
    let title = format!("Status {}", numbers.join(", "));
    let asked = if row.leads.is_empty() { "Management API" } else { "WebSocket handshake" };
    let mut text = format!("# {asked}: HTTP {}\n\n", numbers.join(", "));
    let mut meanings: Vec<&str> = rows.iter().map(|row| row.meaning).collect();
    meanings.dedup();
    let _ = writeln!(text, "It means: {}.\n", meanings.join("; "));
    let causes = row.causes();
    if !causes.is_empty() {
        text.push_str("A browser shows only close code 1006; the status may be in its network tab.\n\n");
        list(&mut text, &causes, "");
        text.push('\n');
    }
    let calls = rows.iter().flat_map(|row| row.management_causes()).collect::<Vec<_>>();
    if !calls.is_empty() {
        text.push_str("## As the answer to a call of the management API\n\n");
        list(&mut text, &calls, "");
        text.push('\n');
    }
    let _ = writeln!(text, "```sh\ntidegate explain {}\n```", row.status);
    Page { file: status_file(row.status), title, text: trimmed(text) }
}

fn symptom_link(number: u8) -> String {
    let symptom = SYMPTOMS.iter().find(|symptom| symptom.number == number);
    let title = symptom.map_or("Other refusals and warnings", |symptom| symptom.title);
    format!("[{title}]({})", symptom_file(number))
}

fn index_page() -> Page {
    let mut text = String::from(
        "# Troubleshooting\n\nStart with what you see. Every cause has a stable id, which is in the log as `diag` and in \
         the journal.\n\n| you have | ask |\n| --- | --- |\n\
         | a request id, connection id or reference of a client | `tidegate explain ID` |\n\
         | a close code or a status | `tidegate explain 1006`, `tidegate explain 403` |\n\
         | an error text | `tidegate explain \"TEXT\"`, or [the index of texts](error-texts.md) |\n\
         | nothing but \"it does not work\" | `tidegate explain --last`, then `tidegate doctor URL` |\n\
         | a backend that does not get its calls | `tidegate doctor --api ID` |\n\n## What happens\n\n",
    );
    for symptom in SYMPTOMS {
        let _ = writeln!(text, "- {}", symptom_link(symptom.number));
    }
    let _ = writeln!(text, "- {}\n\n## Close codes\n\n| code | meaning |\n| --- | --- |", symptom_link(0));
    for row in CLOSE_CODES {
        let _ = writeln!(text, "| [{}]({}) | {} |", row.code, close_code_file(row.code), cell(row.meaning));
    }
    text.push_str("\n## Statuses of a handshake\n\n| status | meaning |\n| --- | --- |\n");
    for row in STATUSES {
        let _ = writeln!(text, "| [{}]({}) | {} |", row.status, status_file(row.status), cell(row.meaning));
    }
    text.push_str("\n## Indexes\n\n- [Error texts](error-texts.md)\n- [Diagnosis ids](diagnosis-ids.md)\n");
    text.push_str("\n## What cannot be seen\n\nNo part of Tidegate can see these causes. Their entries name what comes closest and what to check by hand.\n\n");
    let unseen: Vec<_> =
        Diagnosis::all().filter(|cause| cause.is_undetectable()).map(|cause| cause.diagnosis).collect();
    list(&mut text, &unseen, "");
    Page { file: "README.md".to_owned(), title: "Troubleshooting".to_owned(), text: trimmed(text) }
}

fn texts_page() -> Page {
    let title = "Error texts".to_owned();
    let mut text = format!(
        "# {title}\n\nTexts in lower case, `...` for what differs each time, `#` for a number. `tidegate explain \"TEXT\"` \
         finds them in whatever is pasted, and also a status, a close code or an id inside of it.\n\n| text | causes |\n| --- | --- |\n"
    );
    for (patterns, causes) in search::error_texts() {
        let patterns: Vec<_> = patterns.iter().map(|pattern| format!("`{}`", cell(pattern))).collect();
        // Long lists are those of a symptom or a code, which have pages of their own.
        let shown = causes.iter().take(4).map(|cause| {
            let symptom = cause.describe().symptom;
            format!("[{cause}]({}#{})", symptom_file(symptom), anchor(*cause))
        });
        let more = causes.len().saturating_sub(4);
        let mut shown: Vec<_> = shown.collect();
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        let _ = writeln!(text, "| {} | {} |", patterns.join("<br>"), shown.join(", "));
    }
    Page { file: "error-texts.md".to_owned(), title, text: trimmed(text) }
}

fn ids_page() -> Page {
    let title = "Diagnosis ids".to_owned();
    let mut rows: Vec<&Cause> = Diagnosis::all().collect();
    rows.sort_by_key(|cause| cause.diagnosis);
    let mut text = format!(
        "# {title}\n\n`tidegate explain ID` prints all that is known about one. An id never changes its meaning.\n\n| id | finding |\n| --- | --- |\n"
    );
    for cause in rows {
        let _ = writeln!(text, "| `{}` | {} |", cause.diagnosis, cell(&link(cause, "")));
    }
    text.push_str("\n## Other names\n\n| name | ids |\n| --- | --- |\n");
    for (alias, ids) in search::ALIASES {
        let ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
        let _ = writeln!(text, "| `{alias}` | {} |", ids.join(", "));
    }
    Page { file: "diagnosis-ids.md".to_owned(), title, text: trimmed(text) }
}

/// One line feed at the end.
fn trimmed(text: String) -> String {
    format!("{}\n", text.trim_end())
}
