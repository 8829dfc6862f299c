//! Lists of trunks that never end, repeat, or change underneath.
