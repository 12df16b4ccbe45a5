//! What every Azure service does with a customer-managed key, whatever its type: the checks before it takes the key
//! (`check`), the data key that it keeps wrapped under it (`data_key`, `hold`), and looking at the key again and again
//! (`looks`). Nothing here knows of a provider; each service translates a `Refusal` into its own codes.
//!
//! A provider takes a key in two looks at the world with the cryptography between them:
//! `check` under the lock, `prepare` outside of it, and under the lock again `check` (the world may have moved on) and
//! `World::set_hold`. Reading back goes by `World::hold`; data is opened with `open`.

mod check;
mod data_key;
mod hold;
mod key_use;
mod looks;
#[cfg(test)]
mod tests;

pub(crate) use check::{Usable, check};
pub(crate) use data_key::DataKey;
pub(crate) use hold::{Hold, open, prepare};
pub(crate) use key_use::{KeyUse, Ops, Refusal};
pub(crate) use looks::{keeper, look_at_all};
