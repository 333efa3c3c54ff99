//! Names every key once and turns a file into each room's options.
//!
//! `keys` is the one table: every key of RocketMQ 4.9.3 and our own. `properties` reads Java's
//! `.properties` syntax, `file` holds a file against the table and yields a `RawConfig` (what was
//! said), `resolve` turns that into the options of each room (what is meant), `page` prints the
//! table. Nothing here touches a file or a clock: the text comes in, options go out.
//!
//! A key that 4.9.3 does not know is ignored, as Java ignores it, and named once with the nearest
//! key that exists. A known key whose value does not parse is refused: Java would quietly take the
//! default.

pub mod file;
pub mod keys;
pub mod live;
pub mod page;
pub mod properties;
pub mod resolve;

pub use file::{Error, Program, RawConfig};
