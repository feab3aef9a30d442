//! Writes what was measured into the page, between its markers, and draws the charts beside it.
//!
//! `report PAGE RESULTS`; the same results give the same files. Usually called by `benches/peers/figures`.

mod bars;
mod goals;
mod lines;
mod page;
mod results;
mod svg;
mod table;

use results::Results;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(page), Some(results)) = (arguments.next(), arguments.next()) else {
        return Err("usage: report PAGE RESULTS".into());
    };
    let results = Results::parse(&std::fs::read_to_string(&results)?)?;
    let text = std::fs::read_to_string(&page)?;
    std::fs::write(&page, page::fill(&text, &results)?)?;
    let charts = page.with_extension("");
    std::fs::create_dir_all(&charts)?;
    for (name, svg) in page::charts(&results) {
        for fault in svg.faults() {
            eprintln!("{name}: {fault}");
        }
        std::fs::write(charts.join(name), svg.finish())?;
    }
    Ok(())
}
