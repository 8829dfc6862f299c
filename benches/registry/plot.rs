//! Growth of cost with trunks, as a picture: three panels, both axes by powers of ten.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::report::{Cost, grouped};

/// Draws into `file`. At least two sizes are needed.
pub fn draw(costs: &[Cost], file: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(file, (1_080, 380)).into_drawing_area();
    let failed = |error: DrawingAreaErrorKind<_>| anyhow!("cannot draw {}: {error}", file.display());
    root.fill(&WHITE).map_err(failed)?;
    let resident = |cost: &Cost| cost.resident as f64 / f64::from(1 << 20);
    panel(&root, 0, "First wave, seconds", costs, &|cost| cost.wave_s)?;
    panel(&root, 1, "Processor time of it, seconds", costs, &|cost| cost.cpu_s)?;
    panel(&root, 2, "Resident memory, MiB", costs, &resident)?;
    root.present().map_err(failed)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(
    root: &Area<'_>,
    place: usize,
    title: &str,
    costs: &[Cost],
    of: &dyn Fn(&Cost) -> f64,
) -> anyhow::Result<()> {
    let areas = root.split_evenly((1, 3));
    let points: Vec<(f64, f64)> = costs.iter().map(|cost| (cost.trunks as f64, of(cost))).collect();
    let power = |value: f64, up: bool| {
        let exponent = value.max(1e-6).log10();
        10_f64.powf(if up { exponent.ceil() } else { exponent.floor() })
    };
    let least = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let last = points.last().map_or(10_000.0, |point| point.0);
    let first = points.first().map_or(1_000.0, |point| point.0);
    let failed = |error: DrawingAreaErrorKind<_>| anyhow!("cannot draw {title}: {error}");
    let mut chart = ChartBuilder::on(&areas[place])
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d(
            (first * 0.7..last * 1.6).log_scale(),
            (power(least, false)..power(most * 1.3, true)).log_scale(),
        )
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("trunks")
        .x_labels(4)
        .y_labels(6)
        .x_label_formatter(&|value| grouped(value.round() as u64))
        .y_label_formatter(&|value| amount(*value))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(BLACK.mix(0.12))
        .draw()
        .map_err(failed)?;
    chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2))).map_err(failed)?;
    chart
        .draw_series(points.iter().map(|point| {
            let label = Text::new(amount(point.1), (-38, -22), ("sans-serif", 13));
            EmptyElement::at(*point) + Circle::new((0, 0), 4, BLUE.filled()) + label
        }))
        .map_err(failed)?;
    Ok(())
}

fn amount(value: f64) -> String {
    match value {
        large if large >= 1_000.0 => grouped(large.round() as u64),
        large if large >= 10.0 => format!("{large:.0}"),
        large if large >= 1.0 => format!("{large:.1}").trim_end_matches(".0").to_owned(),
        small => format!("{small:.3}").trim_end_matches('0').to_owned(),
    }
}
