//! What a terminal would obey is taken out of answers.

use serde_json::Value;

use crate::report::Report;

/// Takes away what a terminal would obey: some words come from clients.
pub(super) fn clean(report: &mut Report) {
    fn text(text: &mut String) {
        if text.chars().any(|c| c.is_control() || is_direction_mark(c)) {
            *text = text
                .chars()
                .map(|c| if c.is_control() || is_direction_mark(c) { '\u{fffd}' } else { c })
                .collect();
        }
    }
    fn is_direction_mark(c: char) -> bool {
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    }
    fn value(inner: &mut Value) {
        match inner {
            Value::String(words) => text(words),
            Value::Array(items) => items.iter_mut().for_each(value),
            Value::Object(members) => members.values_mut().for_each(value),
            _ => {}
        }
    }
    text(&mut report.target);
    report.notes.iter_mut().for_each(text);
    for moment in &mut report.timeline {
        text(&mut moment.text);
    }
    for finding in &mut report.findings {
        for evidence in &mut finding.evidence {
            text(&mut evidence.text);
            evidence.facts.values_mut().for_each(value);
        }
        finding.next.iter_mut().for_each(text);
        finding.fix.iter_mut().for_each(text);
    }
}
