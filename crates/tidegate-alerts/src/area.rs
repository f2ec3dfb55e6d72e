//! Places on the globe.

use serde::{Deserialize, Serialize};

/// Mean radius of the earth, in km. Source: the backend that the application was made for.
const EARTH_KM: f64 = 6371.0;

/// Differences of distances below this, in km, come of computing with doubles; a border belongs to its area.
const ROUNDING_KM: f64 = 1e-6;

/// A position, in degrees. No `Debug`: it is where somebody is.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    lat: f64,
    lon: f64,
}

/// A radius can be this.
pub fn is_radius(km: f64) -> bool {
    km.is_finite() && km > 0.0
}

/// Whether a number is a latitude.
pub fn is_latitude(degrees: f64) -> bool {
    (-90.0..=90.0).contains(&degrees)
}

/// Whether a number is a longitude.
pub fn is_longitude(degrees: f64) -> bool {
    (-180.0..=180.0).contains(&degrees)
}

impl Point {
    /// Latitude from -90 to 90 and longitude from -180 to 180; nothing otherwise.
    pub fn new(lat: f64, lon: f64) -> Option<Self> {
        (is_latitude(lat) && is_longitude(lon)).then_some(Self { lat, lon })
    }

    /// Degrees.
    pub const fn lat(self) -> f64 {
        self.lat
    }

    /// Degrees.
    pub const fn lon(self) -> f64 {
        self.lon
    }

    /// Great-circle distance, in km.
    pub fn distance_km(self, other: Self) -> f64 {
        let (from, to) = (self.lat.to_radians(), other.lat.to_radians());
        let north = (other.lat - self.lat).to_radians() / 2.0;
        let east = (other.lon - self.lon).to_radians() / 2.0;
        let chord = north.sin().powi(2) + from.cos() * to.cos() * east.sin().powi(2);
        2.0 * EARTH_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// Borders of a region, which belong to it.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// South.
    pub min_lat: f64,
    /// North.
    pub max_lat: f64,
    /// West. Greater than [`Self::max_lon`]: the region lies across the date line.
    pub min_lon: f64,
    /// East.
    pub max_lon: f64,
}

/// Where a broadcast goes. No `Debug`: it may say where somebody is.
#[derive(Clone, Copy, PartialEq)]
pub enum Area {
    /// Around a point.
    Circle {
        /// Its middle.
        center: Point,
        /// In km.
        radius_km: f64,
    },
    /// Between meridians and parallels.
    Box(Bounds),
}

impl Area {
    /// Whether a point is inside or on the border.
    pub fn contains(&self, point: Point) -> bool {
        match *self {
            Self::Circle { center, radius_km } => center.distance_km(point) <= radius_km + ROUNDING_KM,
            Self::Box(Bounds { min_lat, max_lat, min_lon, max_lon }) => {
                let is_between = (min_lat..=max_lat).contains(&point.lat);
                let (is_east, is_west) = (point.lon >= min_lon, point.lon <= max_lon);
                is_between && if min_lon > max_lon { is_east || is_west } else { is_east && is_west }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lat: f64, lon: f64) -> Point {
        Point::new(lat, lon).unwrap()
    }

    #[test]
    fn a_circle_is_measured_on_the_globe_and_has_its_border() {
        // S3-51: R = 6371 km, so that a degree of a great circle has 111.19 km.
        let degree = EARTH_KM.to_radians();
        assert!((at(0.0, 0.0).distance_km(at(0.0, 1.0)) - degree).abs() < 1e-9);
        assert!((at(89.0, 0.0).distance_km(at(89.0, 180.0)) - 2.0 * degree).abs() < 1e-6);
        let circle = |radius_km| Area::Circle { center: at(10.0, 179.5), radius_km };
        let border = at(10.0, 179.5).distance_km(at(10.0, -179.5));
        assert!(border < 110.0, "over the date line it is one degree, not 359");
        assert!(circle(border).contains(at(10.0, -179.5)));
        assert!(!circle(border - 0.001).contains(at(10.0, -179.5)));
    }

    #[test]
    fn a_box_has_its_borders_and_may_lie_across_the_date_line() {
        // S3-51
        let plain = Area::Box(Bounds { min_lat: -10.0, max_lat: 10.0, min_lon: -20.0, max_lon: 20.0 });
        assert!(
            plain.contains(at(10.0, 20.0))
                && plain.contains(at(-10.0, -20.0))
                && plain.contains(at(0.0, 0.0))
        );
        assert!(!plain.contains(at(10.01, 0.0)) && !plain.contains(at(0.0, 20.01)));
        let across = Area::Box(Bounds { min_lat: -10.0, max_lat: 10.0, min_lon: 170.0, max_lon: -170.0 });
        assert!(
            across.contains(at(0.0, 180.0))
                && across.contains(at(0.0, -170.0))
                && across.contains(at(0.0, 170.0))
        );
        assert!(!across.contains(at(0.0, 0.0)) && !across.contains(at(0.0, 169.0)));
    }

    #[test]
    fn a_point_is_on_the_globe() {
        // S3-42: 0 is a value. S3-54
        assert!(Point::new(0.0, 0.0).is_some() && Point::new(-90.0, 180.0).is_some());
        for (lat, lon) in [(90.1, 0.0), (-90.1, 0.0), (0.0, 180.1), (0.0, -180.1), (f64::NAN, 0.0)] {
            assert!(Point::new(lat, lon).is_none(), "{lat} {lon}");
        }
        assert!(is_radius(0.1) && !is_radius(0.0) && !is_radius(-1.0) && !is_radius(f64::NAN));
    }
}
