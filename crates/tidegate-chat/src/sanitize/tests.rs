use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

// S2-98, S2-99, S2-100
#[test]
fn vectors() {
    let vectors = [
        ("<script>alert('x')</script>", "alert('x')"),
        ("<style>p { color: red }</style>", "p { color: red }"),
        ("<div>in</div>out", "inout"),
        ("<img src=x onerror=a>rest", "rest"),
        ("<a href='javascript:alert(1)'>l</a>", "<a>l</a>"),
        ("<a href='JavaScript:alert(1)'>l</a>", "<a>l</a>"),
        ("<a href=' javascript:alert(1)'>l</a>", "<a>l</a>"),
        ("<a href='java\nscript:alert(1)'>l</a>", "<a>l</a>"),
        ("<a href='&#106;avascript:alert(1)'>l</a>", "<a>l</a>"),
        ("<a href='data:text/html,x'>l</a>", "<a>l</a>"),
        ("<a href='ftp://e.test/'>l</a>", "<a>l</a>"),
        ("<a href='/x?y#z'>l</a>", r#"<a href="/x?y#z">l</a>"#),
        ("<a href='#z' target=_blank>l</a>", r##"<a href="#z" target="_blank">l</a>"##),
        ("<a href='mailto:ana@example.test'>l</a>", r#"<a href="mailto:ana@example.test">l</a>"#),
        (
            r#"<a href="https://e.test/" onclick="x" title="t" rel="r">l</a>"#,
            r#"<a href="https://e.test/" title="t">l</a>"#,
        ),
        (r#"<a href="https://e.test/?a=1&b=2">l</a>"#, r#"<a href="https://e.test/?a=1&amp;b=2">l</a>"#),
        (r#"<p id="i" onmouseover="x">t</p>"#, r#"<p id="i">t</p>"#),
        (r#"<span class=c title=t style="x">t</span>"#, r#"<span class="c">t</span>"#),
        ("a & b", "a &amp; b"),
        ("a &amp; b", "a &amp; b"),
        ("a &lt;b&gt; c", "a &lt;b&gt; c"),
        ("1 < 2 > 0", "1 &lt; 2 &gt; 0"),
        ("\"quotes\" 'stay'", "\"quotes\" 'stay'"),
        ("<b>unclosed", "<b>unclosed</b>"),
        ("stray</b>", "stray"),
        ("<B>x</B>", "<b>x</b>"),
        ("x<br/>y", "x<br>y"),
        ("<!-- c -->t", "t"),
        ("<!DOCTYPE html>t", "t"),
        ("<?php x ?>t", "t"),
        ("<ul><li>a<li>b</ul><ol></ol>", "<ul><li>a</li><li>b</li></ul><ol></ol>"),
        ("<i><em><strong>x</i>", "<i><em><strong>x</strong></em></i>"),
    ];
    for (given, stored) in vectors {
        assert_eq!(content(given), stored, "{given}");
    }
}

// S2-99: a `<` without a complete tag is text of the user.
#[test]
fn what_begins_no_complete_tag_stays() {
    let vectors = [
        ("x<y", "x&lt;y"),
        ("<b>x<y</b>", "<b>x</b>"),
        ("a <b c=\"d>", "a &lt;b c=\"d&gt;"),
        ("a <b c='d\">' <i", "a &lt;b c='d\"&gt;' &lt;i"),
        ("<b c=x d=\">y", "&lt;b c=x d=\"&gt;y"),
        ("<b c='x'd=\">y", "&lt;b c='x'd=\"&gt;y"),
        ("<b/c=\">y", "&lt;b/c=\"&gt;y"),
        ("<b c =\">y", "&lt;b c =\"&gt;y"),
        ("<b \">y", "<b>y</b>"),
        ("<b c=d\">y", "<b>y</b>"),
        ("<3", "&lt;3"),
        ("x <!-- y", "x &lt;!-- y"),
        ("x <!-- y > z", "x &lt;!-- y &gt; z"),
        ("x <!y", "x &lt;!y"),
        ("x </y", "x &lt;/y"),
        ("x </", "x &lt;/"),
        ("x <", "x &lt;"),
        ("<a href=x y<z", "&lt;a href=x y&lt;z"),
        ("<!-->t", "t"),
        ("<a title='>'>x</a>", "<a title=\"&gt;\">x</a>"),
    ];
    for (given, stored) in vectors {
        assert_eq!(content(given), stored, "{given}");
    }
}

// S2-101
#[test]
fn plain_text_loses_markup_and_nothing_else() {
    let vectors = [
        ("Tom & Jerry", "Tom & Jerry"),
        ("a < b > c", "a < b > c"),
        ("x<y", "x<y"),
        ("<b>bold</b> and <script>x</script>", "bold and x"),
        ("&lt;b&gt; &amp; &copy;", "&lt;b&gt; &amp; &copy;"),
        ("<<b>b>x", "x"),
        ("no\u{a0}break", "no\u{a0}break"),
    ];
    for (given, stored) in vectors {
        assert_eq!(plain(given), stored, "{given}");
    }
    let nested = "<".repeat(50) + &"<b>b>".repeat(50);
    assert!(!plain(&nested).contains('<'));
}

/// Texts that a parser could take minutes and gigabytes over, at the largest size of an event.
#[test]
fn hostile_nesting_costs_no_more_than_its_size() {
    let times = |unit: &str| unit.repeat((1 << 17) / unit.len());
    let numbered: String = (0..3_000).map(|n| format!("<b id={n}>")).collect();
    let texts = [
        times("<"),
        times("<a ="),
        times("<a =\"'"),
        times("<!--"),
        times("<b>"),
        times("<div><b>"),
        times("<b></c>"),
        times("<svg><p>"),
        times("<table><b>"),
        times("<p><i>x"),
        times("<b><p></b>x"),
        times("</p>"),
        times("</b>"),
        times("<p>"),
        times("<li>"),
        times("<select><option>"),
        times("&lt"),
        format!("{numbered}{}", "<p>x".repeat(20_000)),
    ];
    for text in texts {
        let start = Instant::now();
        let stored = content(&text);
        let took = start.elapsed();
        assert!(stored.len() <= 8 * text.len(), "{} became {}", &text[..20], stored.len());
        // Generous: this runs without optimization, on busy machines.
        assert!(took < Duration::from_secs(10), "{} took {took:?}", &text[..20]);
    }
}

/// Elements and attributes of a text that must be well-formed: every `<` begins one of ours, every attribute is quoted.
fn check_well_formed(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        if rest[..start].contains('>') {
            return Err("a bare > in text".to_owned());
        }
        rest = &rest[start + 1..];
        let (is_end, tag) = match rest.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let n_name = tag.find(|c: char| !c.is_ascii_lowercase()).ok_or("a tag without end")?;
        let (name, mut tag) = tag.split_at(n_name);
        if !ELEMENTS.contains(&name) {
            return Err(format!("element {name:?}"));
        }
        while let Some(attribute) = tag.strip_prefix(' ') {
            let (key, value) = attribute.split_once("=\"").ok_or("an attribute without a quoted value")?;
            let (value, after) = value.split_once('"').ok_or("a value without end")?;
            let is_link = name == "a" && LINK_ATTRIBUTES.contains(&key);
            if is_end || !(ATTRIBUTES.contains(&key) || is_link) {
                return Err(format!("attribute {key:?} of {name}"));
            }
            if key == "href" {
                check_link(value)?;
            }
            tag = after;
        }
        rest = tag.strip_prefix('>').ok_or_else(|| format!("{name} does not end"))?;
        if is_end {
            if open.pop() != Some(name) {
                return Err(format!("stray end of {name}"));
            }
        } else if name != "br" {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("unclosed {open:?}")) }
}

/// What a browser makes of it: white space and control characters at the begin are skipped, tabs and line ends anywhere.
fn check_link(value: &str) -> Result<(), String> {
    let value = value.replace("&amp;", "&").replace(['\t', '\n', '\r'], "");
    let value = value.trim_start_matches(|c: char| c <= ' ').to_ascii_lowercase();
    let n_scheme =
        value.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(value.len());
    let has_scheme =
        value[n_scheme..].starts_with(':') && value.starts_with(|c: char| c.is_ascii_alphabetic());
    if has_scheme && !SCHEMES.contains(&&value[..n_scheme]) {
        return Err(format!("link to {value:?}"));
    }
    Ok(())
}

#[test]
fn the_check_of_the_next_test_sees_what_is_wrong() {
    for wrong in [
        "<script>x</script>",
        "<b onclick=\"x\">y</b>",
        "<a href=\"java\nscript:x\">y</a>",
        "<a href=\" \u{1}javascript:x\">y</a>",
        "<b>x",
        "x</b>",
        "<b id=x>y</b>",
        "<b title=\"x\">y</b>",
    ] {
        assert!(check_well_formed(wrong).is_err(), "{wrong}");
    }
    assert_eq!(check_well_formed("<a href=\"https://e.test/\" class=\"c\">x<br></a>"), Ok(()));
}

/// Pieces that parsers are known to trip over.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "<",
        ">",
        "</",
        "/>",
        "<!--",
        "-->",
        "--!>",
        "<![CDATA[",
        "]]>",
        "<?",
        "<!",
        "=",
        "\"",
        "'",
        "`",
        " ",
        "\n",
        "\t",
        "\0",
        "&",
        ";",
        "&lt;",
        "&#60;",
        "&#x3c",
        "<b>",
        "</b>",
        "<p>",
        "</p>",
        "<a href=",
        "<a href=\"",
        "javascript:alert(1)",
        "java\tscript:",
        "&#106;avascript:",
        "&Tab;javascript:",
        "data:text/html,",
        "//e.test",
        "vbscript:",
        "https://e.test",
        " onclick=",
        " onerror=\"x\"",
        " style='x'",
        " id=",
        " class=\"",
        "<svg>",
        "</svg>",
        "<svg/onload=x>",
        "<math>",
        "<mi>",
        "<mtext>",
        "<mglyph>",
        "<annotation-xml encoding=\"text/html\">",
        "<foreignObject>",
        "<desc>",
        "<noscript>",
        "</noscript>",
        "<textarea>",
        "</textarea>",
        "<title>",
        "</title>",
        "<style>",
        "</style>",
        "<script>",
        "</script>",
        "<xmp>",
        "</xmp>",
        "<iframe>",
        "</iframe>",
        "<noembed>",
        "<noframes>",
        "<plaintext>",
        "<template>",
        "</template>",
        "<table>",
        "<td>",
        "<caption>",
        "<select>",
        "<option>",
        "<form>",
        "<img src=x onerror=x>",
        "<body onload=x>",
        "<html>",
        "<head>",
        "<frameset>",
        "<li>",
        "<ul>",
        "<br>",
        "</br>",
        "<image>",
        "<isindex>",
        "<a\u{c}href",
        "<b/id=x/onclick=y>",
        "x",
        "\u{a0}",
        "\u{2028}",
        "\u{1f30a}",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[a-z<>\"'=/ ]{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // S2-98, S2-100
    #[test]
    fn nothing_outside_the_lists_survives(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        let stored = content(&text);
        prop_assert!(check_well_formed(&stored).is_ok(), "{text:?} became {stored:?}: {:?}", check_well_formed(&stored));
        // What browsers read again is the same.
        prop_assert_eq!(check_well_formed(&content(&stored)), Ok(()));
    }

    // S2-101
    #[test]
    fn no_markup_survives_in_plain_text(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = plain(&pieces.concat());
        prop_assert_eq!(plain(&text), text.clone());
        let has_tag = text.match_indices('<').any(|(place, _)| {
            let rest = &text[place + 1..];
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            rest.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.contains('>') && !rest.contains(['"', '\''])
        });
        prop_assert!(!has_tag, "{text:?}");
    }

    // Most texts need no parser, which would leave them as they are.
    #[test]
    fn text_without_special_characters_is_as_the_parser_leaves_it(text in "[^<>&\r\0\u{a0}\u{feff}]{0,40}") {
        prop_assert_eq!(content(&text), text.clone());
        prop_assert_eq!(CONTENT.clean(&text).to_string(), text);
    }

    // A text without markup comes through whole.
    #[test]
    fn text_is_kept(text in "[a-z <;\"'=]{0,40}") {
        let stored = content(&text);
        let shown = |text: &str| unescape(&text.replace("&lt;", "<")).into_owned();
        prop_assert_eq!(shown(&stored), shown(&text));
    }
}

// S2-130: what is sanitized before the transaction is exactly what would be sanitized in it.
#[test]
fn large_content_is_sanitized_ahead() {
    let given = format!("  {}  ", "<b>x & y".repeat(LARGE / 8));
    let events = [
        serde_json::json!({ "room_id": "r", "content": given }),
        serde_json::json!({ "action": "update", "extra_fields": { "content": given } }),
    ];
    for event in events {
        let text = large_content(event.as_object().unwrap()).expect("large");
        let cleaned = Cleaned::of(text);
        let text = given.trim();
        assert_eq!(cleaned.find(text), Some(&*content(text)));
        assert_eq!(cleaned.find("<b>x"), None);
        assert!(!format!("{cleaned:?}").contains('&'));
    }
    for text in [format!("<b>{}", "x".repeat(100)), "x".repeat(2 * LARGE)] {
        let event = serde_json::json!({ "content": text });
        assert_eq!(large_content(event.as_object().unwrap()), None);
    }
}
