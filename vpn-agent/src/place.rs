//! Places on the earth, and how far a packet takes between them at best.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Degrees north and east, finite and in range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct Place {
    latitude: f64,
    longitude: f64,
}

/// No value of it is unequal to itself, since none is not a number.
impl Eq for Place {}

/// Numbers that are not a place.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0:?} is not a place; use [latitude, longitude] in degrees, -90 to 90 and -180 to 180")]
pub struct NotAPlace([f64; 2]);

/// The mean radius of the earth, kilometres.
const EARTH_KM: f64 = 6_371.0;

/// What a kilometre adds to a round trip, milliseconds: light in glass does 200 km in one, there and back is twice as
/// far, and cables are half as long again as the shortest line.
const MS_PER_KM: f64 = 1.5 * 2.0 / 200.0;

/// What a round trip takes besides the distance: access networks at both ends, milliseconds.
const ACCESS_MS: f64 = 10.0;

impl Place {
    /// The shortest line over the surface, kilometres.
    #[must_use]
    pub fn distance_km(&self, other: &Self) -> f64 {
        let (north, other_north) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_north = ((other_north - north) / 2.0).sin();
        let half_east = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let haversine = half_north.powi(2) + north.cos() * other_north.cos() * half_east.powi(2);
        // Rounding may make it a little more than one for opposite places.
        2.0 * EARTH_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
    }

    /// An estimate of the time to `other` and back, milliseconds; for who has not measured it.
    #[must_use]
    pub fn round_trip_ms(&self, other: &Self) -> f64 {
        ACCESS_MS + MS_PER_KM * self.distance_km(other)
    }
}

impl TryFrom<[f64; 2]> for Place {
    type Error = NotAPlace;

    fn try_from([latitude, longitude]: [f64; 2]) -> Result<Self, NotAPlace> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            Ok(Self { latitude, longitude })
        } else {
            Err(NotAPlace([latitude, longitude]))
        }
    }
}

impl From<Place> for [f64; 2] {
    fn from(place: Place) -> Self {
        [place.latitude, place.longitude]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(latitude: f64, longitude: f64) -> Place {
        Place::try_from([latitude, longitude]).unwrap()
    }

    #[test]
    fn known_distances_are_found() {
        let (frankfurt, virginia, sydney) = (place(50.11, 8.68), place(39.04, -77.49), place(-33.87, 151.21));
        for (from, to, km) in [
            (frankfurt, virginia, 6_550.0),
            (frankfurt, sydney, 16_480.0),
            (frankfurt, frankfurt, 0.0),
            (place(0.0, 179.5), place(0.0, -179.5), 111.2),
            (place(90.0, 0.0), place(-90.0, 0.0), 20_015.0),
        ] {
            let found = from.distance_km(&to);
            assert!((found - km).abs() <= km * 0.01, "{found} and not {km}");
        }
        assert!((frankfurt.round_trip_ms(&virginia) - 108.0).abs() < 2.0);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for numbers in [[90.5, 0.0], [0.0, -180.1], [f64::NAN, 0.0], [0.0, f64::INFINITY]] {
            let error = Place::try_from(numbers).unwrap_err().to_string();
            assert!(error.contains("use [latitude, longitude]"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_distance_is_one(a in places(), b in places(), c in places()) {
            let [ab, ba, bc, ac] = [a.distance_km(&b), b.distance_km(&a), b.distance_km(&c), a.distance_km(&c)];
            prop_assert!((ab - ba).abs() < 1e-6 && (0.0..20_016.0).contains(&ab));
            prop_assert!(ac <= ab + bc + 1e-6);
        }
    }

    fn places() -> impl Strategy<Value = Place> {
        (-90.0..=90.0_f64, -180.0..=180.0_f64).prop_map(|(latitude, longitude)| place(latitude, longitude))
    }
}
