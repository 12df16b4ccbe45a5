//! The one place for role-based access: definitions, assignments and the decision. Azure Resource Manager and the vault
//! data plane both ask here, so both see a grant arrive at the same time.

pub(crate) mod assignments;
pub(crate) mod check;
pub(crate) mod roles;
