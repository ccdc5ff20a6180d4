//! Lua as Argo CD has it (`util/lua/lua.go`): version 5.1, of whose libraries there are `table` and two functions of `os`.

use mlua::{
    Lua, LuaOptions, LuaSerdeExt as _, StdLib, Table,
    serde::{de, ser},
};
use serde_json::Value;

/// Runs a script on an object, and gives what it returns.
///
/// # Errors
/// The script can't be read, fails, or returns what is not JSON.
pub fn run(script: &str, object: &Value) -> mlua::Result<Value> {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::PACKAGE | StdLib::OS, LuaOptions::default())?;
    let (globals, safe) = (lua.globals(), lua.create_table()?);
    let all: Table = globals.get("os")?;
    for function in ["date", "time"] {
        safe.set(function, all.get::<mlua::Function>(function)?)?;
    }
    globals.set("os", &safe)?;
    globals.get::<Table>("package")?.get::<Table>("loaded")?.set("os", safe)?;
    let options = ser::Options::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    globals.set("obj", lua.to_value_with(object, options)?)?;
    let returned = lua.load(script).eval()?;
    lua.from_value_with(returned, de::Options::new())
}
