//! The simulated cloud's chance: a seeded generator that a world can be copied with. It is not kept in files; a world that
//! is taken up gets a new one from its seed.

use std::ops::{Deref, DerefMut};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A seeded generator.
#[derive(Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    pub fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
}

/// The generator of a world just read, until it is taken up.
impl Default for Chance {
    fn default() -> Self {
        Self::of(0)
    }
}

/// A copy of a world is for looking at and has a generator of its own: the state of the real one cannot be copied.
impl Clone for Chance {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Deref for Chance {
    type Target = StdRng;

    fn deref(&self) -> &StdRng {
        &self.0
    }
}

impl DerefMut for Chance {
    fn deref_mut(&mut self) -> &mut StdRng {
        &mut self.0
    }
}
