//! Probe 5: this machine's clock against the server's, and the token's times against both.

use tidegate_core::diagnosis::Diagnosis;

use super::{Outcome, Run, facts, millis};
use crate::report::{Confidence, Finding, Severity};

/// A difference that is worth a warning, in seconds: leeways of token checks end about here.
const WARN_FROM: i64 = 30;

/// A difference with which times of tokens fail, in seconds: their usual length.
const PROBLEM_FROM: i64 = 300;

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let answer = run.base().await;
    // The answer's time was taken when it was asked for; its own wait is already over.
    let now = run.now_ms();
    let theirs = match &answer {
        Err(trouble) => {
            outcome.inconclusive(format!("no answer to compare clocks with: {trouble}"));
            None
        }
        Ok(answer) if answer.header("age").is_some() => {
            outcome.inconclusive("the answer came from a cache, and so did its time");
            None
        }
        Ok(answer) => match answer.header("date").and_then(http_date) {
            Some(date) => {
                let half = i64::try_from(millis(answer.waited)).unwrap_or_default() / 2;
                // The header has whole seconds: on the average half a second has passed since.
                Some(date * 1000 + 500 + half)
            }
            None => {
                outcome.inconclusive("the answer has no Date header");
                None
            }
        },
    };
    let age = i64::try_from(run.base_age_ms()).unwrap_or_default();
    let difference = theirs.map(|theirs| theirs + age - now);
    if let Some(difference) = difference {
        outcome.measure("differenceMs", difference);
        outcome.summary(format!("{:.1} s between this clock and the server's", difference as f64 / 1000.0));
        if difference.abs() >= WARN_FROM * 1000 {
            run.add(finding(run, difference / 1000, "The server's Date header differs."));
        }
    }
    token_times(run, difference.unwrap_or_default());
    outcome
}

/// `difference`: the server's time minus this machine's, in seconds.
pub(super) fn finding(run: &Run<'_>, difference: i64, observed: &str) -> Finding {
    let severity = if difference.abs() >= PROBLEM_FROM { Severity::Problem } else { Severity::Warning };
    let direction = if difference > 0 { "behind" } else { "ahead of" };
    Finding::new(Diagnosis::CLOCK_CLIENT, severity, Confidence::Proven)
        .seen(
            format!("{observed} This clock is {} s {direction} the server's.", difference.abs()),
            facts([("differenceSeconds", difference.into())]),
        )
        .next(run.again("clock"))
}

fn token_times(run: &mut Run<'_>, difference_ms: i64) {
    let Some(token) = run.target().and_then(|target| target.token.clone()) else { return };
    if let Some(defect) = token.defect() {
        run.add(
            Finding::problem(Diagnosis::JWT_MALFORMED)
                .seen(
                    format!("The token in parameter `{}` is not a JSON Web Token: {defect}.", token.name),
                    facts([("queryNames", vec![token.name.clone()].into()), ("detail", defect.into())]),
                )
                .next("tidegate explain jwt.malformed"),
        );
        return;
    }
    let Some(times) = token.times().filter(|_| token.is_jwt()) else { return };
    // The checking side's clock decides, as far as it is known.
    let now = (run.now_ms() + difference_ms) as f64 / 1000.0;
    let shown = facts([
        ("exp", times.exp.into()),
        ("nbf", times.nbf.into()),
        ("iat", times.iat.into()),
        ("now", (now.round() as i64).into()),
    ]);
    if let Some(exp) = times.exp.filter(|exp| *exp <= now) {
        run.add(
            Finding::problem(Diagnosis::JWT_EXPIRED)
                .seen(format!("The token ended {} s ago (claim `exp`).", (now - exp).round()), shown)
                .next(run.again("clock,auth")),
        );
    } else if let Some(begin) = [times.nbf, times.iat].into_iter().flatten().find(|time| *time > now + 1.0) {
        run.add(
            Finding::problem(Diagnosis::JWT_NOT_YET_VALID)
                .seen(
                    format!("The token begins in {} s (claims `nbf`, `iat`).", (begin - now).round()),
                    shown,
                )
                .next(run.again("clock,auth")),
        );
    }
}

/// Seconds since 1970 of a date as HTTP writes it. Source: RFC 9110, section 5.6.7.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(http_date(" Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }
}
