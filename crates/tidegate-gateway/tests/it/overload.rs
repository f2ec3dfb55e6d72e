//! A node whose processors have too much to do says so.

use std::time::Duration;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;

use crate::harness::Plane;

fn is_overload(notice: &Notice) -> bool {
    matches!(notice, Notice::Controlled { refused: Some(Diagnosis::LIMIT_OVERLOAD), .. })
}

// limit.overload: one thread for everything, and somebody who does not let go of it.
#[tokio::test]
async fn tasks_that_run_late() {
    let plane = Plane::start().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(plane.gateway.overload_since(0), None, "nothing is late yet");
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(700));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = plane.notices.record.until("Controlled", 1, is_overload).await;
    let Notice::Controlled { what, facts, .. } = &told[0] else { unreachable!() };
    assert_eq!(*what, "overload");
    let number = |name| facts.number(name).unwrap();
    assert!(number("delayMs") > 250 && number("count") >= 4 && number("connections") == 0, "{facts:?}");
    assert!(plane.gateway.overload_since(0).is_some_and(|delay| delay > 250));
    assert_eq!(plane.gateway.overload_since(u64::MAX), None);
    plane.end().await;
}
