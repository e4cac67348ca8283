//! What the board asks, when, and what it makes of the answers, on virtual time.
