//! The measured figures, with their names in the table and in the JSON.

/// One measured value.
pub struct Figure {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its name in the table, unit included.
    pub label: &'static str,
    /// Digits after the decimal point in the table.
    pub decimals: usize,
    /// Whether the table shows the ratio of two runs.
    pub comparable: bool,
    pub value: f64,
}

/// One part of a scenario with its figures.
pub struct Phase {
    pub name: &'static str,
    pub figures: Vec<Figure>,
}

impl Phase {
    pub fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }

    /// Adds a figure that is compared between runs.
    pub fn add(&mut self, key: &'static str, label: &'static str, decimals: usize, value: f64) {
        self.figures.push(Figure { key, label, decimals, comparable: true, value });
    }

    /// Adds a figure that is not compared between runs.
    pub fn note(&mut self, key: &'static str, label: &'static str, decimals: usize, value: f64) {
        self.figures.push(Figure { key, label, decimals, comparable: false, value });
    }
}

/// The results of one target.
pub struct Run {
    /// The name of the target.
    pub name: &'static str,
    /// In the order of measurement.
    pub phases: Vec<Phase>,
    /// Violations of what the test expects: lost messages, disconnects and the like.
    pub failures: Vec<String>,
    /// Observations that are no failures.
    pub remarks: Vec<String>,
}
