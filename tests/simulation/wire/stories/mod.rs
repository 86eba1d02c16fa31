//! The stories, by subject.

mod delivery;
mod retained;
mod sessions;
mod shared;
mod wills_arming;
mod wills_closing;
mod wills_coming_back;
mod wills_held;
mod wills_publishing;
