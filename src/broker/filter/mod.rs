//! Which messages a consumer wants: by tag, or by an SQL92 expression on the properties.
//!
//! `sql92` is the language, `consumer_filters` what each group registered for each topic, `wanted`
//! what one pull looks for. All of it is pure: no clock, no file, no runtime.
//!
//! Differs from 4.9.3: there is no bitmap that is calculated when a message is stored
//! (`enableCalcFilterBitMap`); an expression is always evaluated on the message. `bloom` makes only
//! the positions that consumerFilter.json holds, so that a Java broker takes the file.

pub mod bloom;
pub mod compiled;
pub mod consumer_filters;
pub mod sql92;
pub mod wanted;
