use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::context::{ConnectionFacts, EventKind};
use crate::id::{ConnectionId, RequestId};

fn event(kind: EventKind) -> Event {
    Event {
        connection: Arc::new(ConnectionFacts {
            connection_id: ConnectionId::parse("Hh2QmdfDIkwCF6w=").unwrap(),
            api_id: "k3x9q2m7vd".into(),
            stage: "prod".into(),
            domain_name: "ws.example.com".into(),
            source_ip: "203.0.113.7".parse().unwrap(),
            user_agent: None,
            is_secure: true,
            client_port: 443,
            connected_at: 1_736_942_400_000,
        }),
        request_id: RequestId::new(0, 0),
        route_key: "join".into(),
        request_time: 1_736_942_400_001,
        kind,
        session: None,
        authorized: None,
    }
}

const BODY: &str = r#"{"action":"join","n":3,"x":2.50,"on":true,"none":null,"text":"it's \"so\"",
    "list":[1,"two",{"k":"v"}],"map":{"b":1,"a":[2,3]},"big":123456789012345678901}"#;

fn run(template: &str, body: &str) -> Result<String, RenderError> {
    let event = event(EventKind::Message { message_id: RequestId::new(0, 1) });
    let variables = [("tier".to_owned(), "gold".to_owned()), ("a-b".to_owned(), "c".to_owned())].into();
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    let scope = Scope { event: &event, stage_variables: &variables, body, headers: None, query: "" };
    template.render(&scope)
}

#[track_caller]
fn check(template: &str, expected: &str) {
    assert_eq!(run(template, BODY).as_deref(), Ok(expected), "{template}");
}

#[test]
fn references() {
    // AG-20
    check("#set($x = 'v')$x ${x} $!x $!{x} ${x}y $x.", "v v v v vy v.");
    check("$y ${y} [$!y$!{y}] $y.z.m('a', 1) $!y.z", "$y ${y} [] $y.z.m('a', 1) ");
    check("a $ 5 $1.50 $!1 ${1} #1 # \\ x", "a $ 5 $1.50 $!1 ${1} #1 # \\ x");
    check("#set($x = 1)\\$x \\\\$x \\\\\\$x \\$y \\\\$y", "$x \\1 \\$x \\$y \\\\$y");
    check("#set($a = 'x')#set($b = 'y')$a-$b $a_b", "x-y $a_b");
    check("#set($i = $input.path('$'))$i.map.b $i.map['b'] $i['map'].get('b') ${i.list[1]}", "1 1 1 two");
    check(
        "#set($i = $input.path('$'))$i.list[-1].k $i.list.get(0) $i.list[9] $i.nope",
        "v 1 $i.list[9] $i.nope",
    );
    check(
        "#set($i = $input.path('$'))$i.list $i.map $i.n $i.x $i.on $i.big $!i.none",
        "[1, two, {k=v}] {b=1, a=[2, 3]} 3 2.5 true 123456789012345678901 ",
    );
}

#[test]
fn directives() {
    // AG-20
    check("#if($n)a#else b#end", " b");
    check("#if(1 == 2)a#elseif('x' == \"x\")b#{else}c#end", "b");
    check("#if(false)a#{else}c#{end}!", "c!");
    check(
        "#foreach($e in [1..3])$foreach.index/$foreach.count/$velocityCount/$foreach.first/$foreach.last/$foreach.hasNext $e;#end",
        "0/1/1/true/false/true 1;1/2/2/false/false/true 2;2/3/3/false/true/false 3;",
    );
    check("#foreach($e in $input.path('$.list'))$e#if($foreach.hasNext),#end#end", "1,two,{k=v}");
    check("#foreach($e in $input.path('$.map'))$e;#end", "1;[2, 3];");
    check(
        "#foreach($e in $input.path('$.map').entrySet())$e.key=$e.value $e.getKey();#end",
        "b=1 b;a=[2, 3] a;",
    );
    check("#foreach($e in $input.path('$.map').keySet())$e#end", "ba");
    check("#foreach($e in $nothing)x#{end}y", "y");
    check("#foreach($e in [1..9])#if($e == 3)#break#end$e#end!", "12!");
    check(
        "#foreach($a in [1,2])#foreach($b in [1,2])$foreach.parent.count$foreach.count #end#end",
        "11 12 21 22 ",
    );
    check("a#stop b", "a");
    check("a## comment\nb#* block\n *#c#[[ $x #if ]]#d", "abc $x #if d");
    check("#macro(hi $who $n)hello $who$n;#end#hi('a' 1)#hi('b', 2)", "hello a1;hello b2;");
    check("#hi($x)#macro(hi $who)<$who>#end", "<$who>");
    check("#foreach($e in ['x'])#end$e#set($e = 1)#foreach($e in ['x'])$e#end$e", "$ex1");
    check("#unknown #include $ #elsewhere \\#if \\#foo", "#unknown #include $ #elsewhere #if \\#foo");
    check("#set($l = [])#foreach($e in [1..1500])#set($ok = $l.add($e))#end$l.size()", "1000");
}

#[test]
fn blanks_and_lines() {
    // AG-20
    check("{\n#set($x = 1)\n  #set($y = 2)  \n\"a\": $x\n}\n", "{\n\"a\": 1\n}\n");
    check("#if(true)\na\n#else\nb\n#end\nc", "a\nc");
    check("#foreach($e in [1..2])  \n $e,\n#end\r\nx", " 1,\n 2,\nx");
    check("#if(true) a #end b", " a  b");
    check("## one\n## two\nx", "x");
    check("#macro(m)\nbody\n#end\n#m()\nend", "body\nend");
}

#[test]
fn numbers() {
    // AG-20
    check("#set($x = 1 + 2 * 3 - 4 / 2 % 3)$x", "5");
    check(
        "#set($x = (1 + 2) * -3)$x #set($y = 7 / 2)$y #set($z = 7.0 / 2)$z#set($f = 1.5e3) $f",
        "-933.5 1500.0",
    );
}

#[test]
fn operators() {
    // AG-20
    check("#set($x = 'a' + 1 + 'b')$x", "a1b");
    check("#set($x = 5)#set($x = 5 / 0)$x", "5");
    check("#if(1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3 && 1 != 2 && !false)y#end", "y");
    check("#if(1 lt 2 and 2 eq 2 or not true)y#end", "y");
    check("#if(false || $nothing)n#{else}y#end", "y");
    check("#if('5' == 5 && 5.0 == 5 && 'a' != 'b' && $a == $b)y#end", "y");
    check("#set($l = [1, 'b', [3..1]])$l $l.size()", "[1, b, [3, 2, 1]] 3");
    check("#set($m = {'k': 1, \"n$l\": {}})$m.k $m $m.size()", "1 {k=1, n$l={}} 2");
    check(
        "#set($m = {})#set($m.a = 1)#set($m['b'] = 2)#set($l = [0,0])#set($l[1] = 5)$m $l",
        "{a=1, b=2} [0, 5]",
    );
    check(
        "#set($a = 'x')#set($s = \"<$a> ${a}y #if(true)z#end \"\"q\"\"\")$s#set($t = 'it''s $a')$t",
        "<x> xy z \"q\"it's $a",
    );
    check("#set($x = 9223372036854775807)#set($x = $x + 1)$x", "9.223372036854776E18");
    check("#set($x = 1.0)#set($y = 0.0001)#set($z = 12345678.0)$x $y $z", "1.0 1.0E-4 1.2345678E7");
    check("#set($x = 1)#set($x = $nothing)$x", "1");
    check("#if('')yes#end#if(0)yes#end", "yesyes");
}

#[test]
fn methods() {
    // AG-20
    check(
        "#set($s = ' Hello World ')[$s.trim()] $s.length() $s.toLowerCase() $s.trim().toUpperCase()",
        "[Hello World] 13  hello world  HELLO WORLD",
    );
    check(
        "#set($s = 'abcabc')$s.substring(2) $s.substring(1,3) $s.indexOf('c') $s.lastIndexOf('c') $s.indexOf('z') $s.charAt(1)",
        "cabc bc 2 5 -1 b",
    );
    check(
        "#set($s = 'abc')$s.startsWith('a') $s.endsWith('a') $s.contains('b') $s.equals('abc') $s.equalsIgnoreCase('ABC') $s.isEmpty() $s.concat('d')",
        "true false true true true false abcd",
    );
    check(
        "#set($s = 'a.b.c')$s.replace('.', '-') $s.replaceAll('\\.', '+') $s.replaceAll('([a-c])', '<$1>') $s.replaceFirst('[.]', '')",
        "a-b-c a+b+c <a>.<b>.<c> ab.c",
    );
    check(
        "#set($s = 'a,b,,c,,')$s.split(',') $s.split(',').size() $s.split(',')[1] $s.matches('[a-c,]+') $s.matches('a')",
        "[a, b, , c] 4 b true false",
    );
    check("#set($s = '\u{1d11e}x')$s.length() $s.substring(2)", "3 x");
    check(
        "#set($l = [3,1])$l.add(2)$l.add(0, 9) $l.contains(1) $l.isEmpty() $l.get(0) $l.remove(0) $l.set(0, 7) $l $l.indexOf(2)",
        "true true false 9 9 3 [7, 1, 2] 2",
    );
    check(
        "#set($m = {'a': 1})$m.put('b', 2)$m.containsKey('b') $m.get('b') $m.keySet() $m.values() $m.isEmpty() $m.remove('a') $m $m.get('z')",
        "true 2 [a, b] [1, 2] false 1 {b=2} $m.get('z')",
    );
    check("#set($n = 0)$n.parseInt('12') $n.toString().length()", "12 1");
    check("$s.nope() #set($s = 'x')$s.nope()", "$s.nope()$s.nope()");
}

#[test]
fn variables_of_the_service() {
    // AG-20
    check(
        "$context.connectionId $context.requestTimeEpoch $context.routeKey $context.identity.sourceIp",
        "Hh2QmdfDIkwCF6w= 1736942400001 join 203.0.113.7",
    );
    check(
        "[$context.nothing][$context.identity.userAgent][$context.authorizer.x][$context.authorizer.get('y')]",
        "[][][][]",
    );
    check(
        "#set($context.requestOverride.header.x = 'y')$context.requestOverride.header.x",
        "$context.requestOverride.header.x",
    );
    check(
        "$stageVariables.tier $stageVariables['tier'] ${stageVariables['a-b']} $stageVariables.get('tier') $stageVariables.none",
        "gold gold c gold $stageVariables.none",
    );
    check(
        "$input.json('$.text') $input.json('$.map') $input.json('$.x') $input.json('$.nope') $input.json('$.none')",
        r#""it's \"so\"" {"b":1,"a":[2,3]} 2.50 "" null"#,
    );
    check(
        "$input.json('$.list[*].k') $input.json('$..a') [$input.path('$.nope')][$input.path('$.none')]",
        r#"["v"] [[2,3]] [][]"#,
    );
    check(
        "#if($input.path('$.nope') == '')e#end#if(!$input.path('$.nope'))m#end#if($input.path('$.nope').length() == 0)l#end",
        "eml",
    );
    check(
        "$input.path('$.list').size() $input.path('$').action $input.path('$.n') ${input.path('$.on')}",
        "3 join 3 true",
    );
    check(
        "$util.escapeJavaScript($input.path('$.text')) $util.escapeJavaScript('a/\u{e9}').replaceAll(\"\\\\/\",\"/\")",
        "it\\'s \\\"so\\\" a/\\u00E9",
    );
    check("$util.escapeJavaScript($input.path('$.text')).replaceAll(\"\\\\'\",\"'\")", "it's \\\"so\\\"");
    check(
        "$util.urlEncode('a b&c/\u{e9}') $util.urlDecode('a+b%26') $util.base64Encode('hi') $util.base64Decode('aGk=')",
        "a+b%26c%2F%C3%A9 a b& aGk= hi",
    );
    check("#set($o = $util.parseJson('{\"a\":[1,{\"b\":2}]}'))$o.a[1].b $o", "2 {a=[1, {b=2}]}");
    assert_eq!(run("$input.body", "raw text").as_deref(), Ok("raw text"));
    assert_eq!(
        run("$input.json('$') $input.path('$')", "raw \"text").as_deref(),
        Ok(r#""raw \"text" raw "text"#)
    );
    assert_eq!(run("$input.json('$')|$input.body", "").as_deref(), Ok("{}|"));
    assert_eq!(
        run("$input.params('x')|$input.params()", "").as_deref(),
        Ok("|{path={}, querystring={}, header={}}")
    );
}

#[test]
fn parameters_of_the_handshake() {
    // AG-20
    let event = event(EventKind::Connect);
    let mut headers = http::HeaderMap::new();
    headers.append("x-tag", "one".parse().unwrap());
    headers.append("x-tag", "two".parse().unwrap());
    let variables = Map::new();
    let scope = Scope {
        event: &event,
        stage_variables: &variables,
        body: "",
        headers: Some(&headers),
        query: "room=a%20b&room=c&x-tag=q",
    };
    let template = "$input.params('room') $input.params('X-Tag') $input.params().header.get('x-tag') \
        $input.params().header['X-Tag'] $input.params('x-tag') $input.params().querystring.room \
        #foreach($t in $input.params().keySet())$t,#end $input.params().header";
    let rendered = Template::parse(template).unwrap().render(&scope);
    assert_eq!(rendered.as_deref(), Ok("c two two two q c path,querystring,header, {X-Tag=two}"));
}

#[test]
fn bad_templates_are_refused_with_their_line() {
    for (bad, line) in [
        ("\n#if(true)", 2),
        ("#end", 1),
        ("a\n\n#set($x 1)", 3),
        ("#set($x.m() = 1)", 1),
        ("#foreach($x of [1])#end", 1),
        ("${x", 1),
        ("$x.m(", 1),
        ("$x.m('a)", 1),
        ("#if(1 ==)#end", 1),
        ("#if(true)#else#else#end", 1),
        ("#[[ x", 1),
        ("#* x", 1),
        ("#parse('x')", 1),
        ("#set($x = 99999999999999999999)", 1),
    ] {
        match Template::parse(bad) {
            Err(TemplateError::Syntax { line: at, .. }) => assert_eq!(at, line, "{bad}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
    assert_eq!(Template::parse(&"x".repeat(MAX_TEMPLATE_BYTES + 1)), Err(TemplateError::TooLong));
    for deep in ["#if(true)", "#set($x = (", "$x[", "#set($x = !", "#set($x = [", "\"#set($x=\""] {
        let deep = deep.repeat(MAX_TEMPLATE_BYTES / deep.len());
        assert!(Template::parse(&format!("#set($y={deep}")).is_err(), "{deep:.20}");
    }
    let long = format!("#set($x = 1{})$x", "+1".repeat(10_000));
    assert_eq!(run(&long, "").as_deref(), Ok("10001"));
}

#[test]
fn what_throws_is_an_error() {
    for throws in [
        "#set($s = 'abc')$s.substring(4)",
        "#set($s = 'abc')$s.substring(2, 1)",
        "#set($s = 'abc')$s.replaceAll('(', 'x')",
        "#set($s = 'abc')$s.replaceAll('a', '$9')",
        "#set($l = [1])$l.get(1)",
        "$util.parseJson('{')",
        "$util.base64Decode('*')",
        "$util.urlDecode('%zz')",
        "$input.json('$[')",
        "#set($n = 1)$n.parseInt('x')",
    ] {
        assert!(run(throws, "{}").is_err(), "{throws}");
    }
}

#[test]
fn hostile_templates_end_quickly() {
    let loops = "#foreach($a in [1..1000])".repeat(3) + "x" + &"#end".repeat(3);
    let cases = [
        (loops.as_str(), "{}"),
        ("#set($s = 'xxxxxxxxxxxxxxxx')#foreach($a in [1..1000])#set($s = \"$s$s\")#end", "{}"),
        ("#set($s = 'xxxxxxxxxxxxxxxx')#foreach($a in [1..1000])#set($s = $s.replace('x', 'xx'))#end", "{}"),
        ("#set($s = 'xxxxxxxxxxxxxxxx')#foreach($a in [1..1000])$s#set($s = $s + $s)#end", "{}"),
        ("#set($l = [1])#foreach($a in [1..1000])#set($ok = $l.addAll($l))#end", "{}"),
        ("#set($l = [1])#set($ok = $l.add($l))$l", "{}"),
        ("#set($m = {})#set($m.m = $m)$m", "{}"),
        ("#macro(m)#m()#m()#end#m()", "{}"),
        ("#macro(m)#if(true)#if(true)x#m()#end#end#end#m()", "{}"),
        ("#set($x = [1..999999999])", "{}"),
        ("#foreach($a in [1..1000])#foreach($b in [1..1000])#set($x = $input.path('$'))#end#end", BODY),
        (
            "#set($s = \"$input.body\")#foreach($a in [1..1000])#set($x = $s.matches('(a|b|ab|ba)*c.*d.*e'))#end",
            &"ab".repeat(50_000),
        ),
        (
            "#set($s = \"$input.body\")$s.replaceAll('', '0123456789012345678901234567890123456789')",
            &"ab".repeat(50_000),
        ),
        ("$input.json('$..*..*..*..*')", &("[".repeat(100) + &"]".repeat(100))),
        ("$input.path('$')", &("[".repeat(1000) + &"]".repeat(1000))),
    ];
    for (template, body) in cases {
        let began = std::time::Instant::now();
        let result = run(template, body);
        assert!(result.is_err(), "{template}: {:?}", result.map(|text| text.len()));
        // Unoptimised, on a busy machine; optimised it is a fraction.
        assert!(began.elapsed().as_secs() < 10, "{template}: {:?}", began.elapsed());
    }
}

proptest! {
    #[test]
    fn no_text_panics(template in "[$#!{}()\\[\\]a-c.'\"\\\\ \n=+,:0-9-]{0,60}", body in ".{0,40}") {
        if let Ok(template) = Template::parse(&template) {
            let event = event(EventKind::Connect);
            let variables = Map::new();
            let scope = Scope { event: &event, stage_variables: &variables, body: &body, headers: None, query: &body };
            if let Ok(text) = template.render(&scope) {
                prop_assert!(text.len() <= MAX_OUTPUT_BYTES);
            }
        }
    }

    #[test]
    fn no_sequence_of_directives_panics(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "#set($a = ", "#foreach($b in ", "#if(", "#end", "#else", "#macro(m $a)", "#m($a)", "[1..3]", "'x'", ")",
            "$a", "$input.path('$", "$input.json('$..", "')", ".size()", "\"", "$b.add($a)", ".split('')", "{'k':", "}",
            "+", "==", "-9223372036854775808", ".substring(1)", "\n", "#break", "#stop", "[0]", "\\", ".get(0)",
        ]), 0..20),
        body in prop::sample::select(vec!["", "{}", BODY, "[[1],[2]]", "\u{1d11e}"]),
    ) {
        let text = pieces.concat();
        if let Ok(template) = Template::parse(&text) {
            let event = event(EventKind::Connect);
            let variables = Map::new();
            let scope = Scope { event: &event, stage_variables: &variables, body, headers: None, query: "" };
            let _ = template.render(&scope);
        }
    }

    #[test]
    fn plain_text_stays(text in "[a-z0-9 \n\"{}:,.]{0,80}") {
        let event = event(EventKind::Connect);
        let variables = Map::new();
        let scope = Scope { event: &event, stage_variables: &variables, body: "", headers: None, query: "" };
        prop_assert_eq!(Template::parse(&text).unwrap().render(&scope), Ok(text));
    }
}
