//! What runs did, on the operator's side: their records, and what later runs made of earlier ones. Stands before the plan,
//! since the plan of a rollback is made from it.

pub mod history;
pub mod outcome;
pub mod record;
