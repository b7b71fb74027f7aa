//! What a machine can do to a profile and to a rendezvous, done to the very programs: nothing that
//! was acknowledged is lost, nothing comes twice, and what is wrong is said.

mod damage;
mod disk;
mod old_copy;
mod unanswered;
