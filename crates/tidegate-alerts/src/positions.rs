//! Where users are: the last position of each, for a day, in memory only and nowhere else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::area::{Area, Point};

/// Milliseconds for which a position holds.
pub const KEEP_MS: u64 = 24 * 60 * 60 * 1000;

/// Users whose position is known; the one that was told longest ago is forgotten for a new one.
pub const MAX_USERS: usize = 100_000;

#[derive(Default)]
struct Table {
    users: HashMap<Arc<str>, (u64, u64, Point)>,
    /// Oldest first, by number; has entries of positions that were told again.
    order: VecDeque<(u64, Arc<str>)>,
    told: u64,
}

/// See the module.
#[derive(Default)]
pub struct Positions(Mutex<Table>);

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Positions").field("users", &self.0.lock().users.len()).finish()
    }
}

impl Positions {
    /// Takes a user's position at a time, in milliseconds since 1970.
    pub fn put(&self, user: &str, point: Point, now: u64) {
        let mut table = self.0.lock();
        table.told += 1;
        let number = table.told;
        let user: Arc<str> = user.into();
        table.users.insert(Arc::clone(&user), (number, now, point));
        table.order.push_back((number, user));
        table.forget_old(now);
    }

    /// Users that were last in an area.
    pub fn inside(&self, area: &Area, now: u64) -> std::collections::HashSet<Arc<str>> {
        let mut table = self.0.lock();
        table.forget_old(now);
        let users = table.users.iter().filter(|(_, (_, _, point))| area.contains(*point));
        users.map(|(user, _)| Arc::clone(user)).collect()
    }
}

impl Table {
    fn forget_old(&mut self, now: u64) {
        let Self { users, order, .. } = self;
        let last = |user: &str| users.get(user).map(|(number, at, _)| (*number, *at));
        if order.len() > 2 * MAX_USERS {
            // A user who moves often leaves old entries behind.
            order.retain(|(number, user)| last(user).is_some_and(|(last, _)| last == *number));
        }
        while let Some((number, user)) = order.front() {
            let told_at = users.get(user).filter(|(last, _, _)| last == number).map(|(_, at, _)| *at);
            let is_current = told_at.is_some_and(|at| now.saturating_sub(at) < KEEP_MS);
            if is_current && users.len() <= MAX_USERS {
                break;
            }
            let Some((_, user)) = order.pop_front() else { break };
            if told_at.is_some() {
                users.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> Area {
        Area::Circle { center: Point::new(0.0, 0.0).unwrap(), radius_km: 30_000.0 }
    }

    #[test]
    fn the_last_position_holds_for_a_day() {
        // S3-52
        let positions = Positions::default();
        positions.put("u", Point::new(50.0, 50.0).unwrap(), 0);
        positions.put("u", Point::new(0.0, 0.0).unwrap(), 10);
        let near = Area::Circle { center: Point::new(0.0, 0.0).unwrap(), radius_km: 1.0 };
        assert!(positions.inside(&near, 10 + KEEP_MS - 1).contains("u"));
        assert!(positions.inside(&near, 10 + KEEP_MS).is_empty());
        assert!(positions.0.lock().users.is_empty() && positions.0.lock().order.is_empty());
    }

    #[test]
    fn positions_are_bounded_and_nothing_prints_them() {
        // S3-52
        let positions = Positions::default();
        for user in 0..=MAX_USERS {
            positions.put(&user.to_string(), Point::new(12.5, 77.25).unwrap(), 0);
        }
        let inside = positions.inside(&everywhere(), 0);
        assert!(inside.len() == MAX_USERS && !inside.contains("0"));
        for _ in 0..3 * MAX_USERS {
            positions.put("7", Point::new(0.0, 0.0).unwrap(), 0);
        }
        assert!(positions.0.lock().order.len() <= 2 * MAX_USERS);
        assert_eq!(positions.inside(&everywhere(), 0).len(), MAX_USERS, "who moves often pushes nobody out");
        let printed = format!("{positions:?}");
        assert!(!printed.contains("12.5") && !printed.contains("77.25"), "{printed}");
    }
}
