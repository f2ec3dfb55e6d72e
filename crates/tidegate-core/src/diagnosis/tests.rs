use super::*;

#[test]
fn ids_are_unique_and_well_formed() {
    let mut seen = std::collections::HashSet::new();
    for cause in Diagnosis::all() {
        let id = cause.diagnosis.as_str();
        assert!(seen.insert(id), "{id} twice");
        let (family, name) = id.split_once('.').expect("two parts");
        for part in [family, name] {
            assert!(part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
        }
    }
}

#[test]
fn every_row_is_complete() {
    // DX-1 DX-63
    for cause in Diagnosis::all() {
        for part in [cause.title, cause.cause, cause.proof, cause.client, cause.fix, cause.seen] {
            assert!(!part.trim().is_empty(), "{}: {cause:?}", cause.diagnosis);
        }
        assert!(cause.title.ends_with('.'), "{}", cause.diagnosis);
    }
}

#[test]
fn the_catalogue_counts_as_its_specification_says() {
    // DX-1
    let rows = || Diagnosis::all().filter(|cause| cause.symptom > 0);
    let letter = |letter: &str| {
        rows().filter(|cause| cause.seen.split(' ').any(|seen| seen.trim_end_matches('*') == letter)).count()
    };
    assert_eq!(rows().count(), 376);
    assert_eq!(rows().map(|cause| cause.symptom).collect::<std::collections::BTreeSet<_>>().len(), 38);
    assert_eq!(rows().filter(|cause| cause.is_provable()).count(), 346);
    assert_eq!(letter("G"), 244);
    assert_eq!(letter("B"), 33);
    assert_eq!(letter("D"), 105);
    assert_eq!(letter("C"), 84);
    assert_eq!(letter("L"), 36);
    assert_eq!(rows().filter(|cause| cause.is_undetectable()).count(), 13);
    assert_eq!(rows().filter(|cause| !cause.is_provable() && !cause.is_undetectable()).count(), 17);
}

#[test]
fn texts_say_different_things() {
    // DX-63
    let mut titles = std::collections::HashMap::new();
    for cause in Diagnosis::all() {
        let id = cause.diagnosis;
        for text in [cause.title, cause.cause, cause.proof, cause.client, cause.fix] {
            assert!(text.ends_with(['.', '`', '"', ')']), "{id}: {text}");
            assert!(text.starts_with(|c: char| !c.is_ascii_lowercase()), "{id}: {text}");
            assert!(!text.contains("  "), "{id}: {text}");
            // Written as they are said, in one language and one spelling.
            for word in ["as above", "{H", "{NONE", "behaviour", "synchronise", "recognise"] {
                assert!(!text.contains(word), "{id}: {text}");
            }
        }
        assert!(cause.title.len() <= 123, "{id}: {} bytes do not fit a close frame", cause.title.len());
        assert_ne!(cause.cause, cause.title, "{id}");
        assert_ne!(cause.proof, cause.title, "{id}");
        assert_ne!(cause.fix, cause.title, "{id}");
        // An action is more than a word.
        assert!(cause.fix.split(' ').count() >= 5, "{id}: {}", cause.fix);
        if let Some(other) = titles.insert(cause.title, id) {
            panic!("{id} and {other} have one title");
        }
    }
}

#[test]
fn what_cannot_be_proven_says_so() {
    // DX-2
    for cause in Diagnosis::all() {
        let id = cause.diagnosis;
        match cause.what_was_seen() {
            None => assert!(cause.is_provable(), "{id}"),
            Some(said) if cause.is_undetectable() => {
                assert!(said.starts_with("No part of Tidegate can see this cause."), "{id}");
                assert!(said.contains("closest"), "{id}: {said}");
                assert!(said.ends_with(cause.fix), "{id}");
                assert!(cause.proof.starts_with("Nothing"), "{id}: {}", cause.proof);
            }
            Some(said) => {
                assert!(said.starts_with("This cause can only be suggested"), "{id}");
                assert!(cause.proof.contains("losest sign"), "{id}: {}", cause.proof);
                assert!(["prove", "Proof", "proven"].iter().any(|word| cause.proof.contains(word)), "{id}");
            }
        }
    }
}
