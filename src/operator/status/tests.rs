//! Tables for each condition and fault, transitions, and what must hold of every status.
