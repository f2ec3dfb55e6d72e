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
