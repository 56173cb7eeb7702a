//! A value that may contain secrets.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// A value whose contents `Debug` does not show.
#[derive(Clone, Default)]
pub struct Unprinted<T>(pub T);

impl<T> fmt::Debug for Unprinted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> Deref for Unprinted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Unprinted<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
