//! Writes the page anew.

fn main() -> anyhow::Result<()> {
    std::fs::write(api_docs::page(), api_docs::generate()?)?;
    Ok(())
}
