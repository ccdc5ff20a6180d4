//! Writes the files anew.

fn main() -> anyhow::Result<()> {
    let chart = chart_docs::chart();
    for (name, text) in chart_docs::generate(&chart)? {
        std::fs::write(chart.join(name), text)?;
    }
    Ok(())
}
