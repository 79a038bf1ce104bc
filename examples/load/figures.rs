//! The figures of a run, named once, for the table and for the JSON.

/// One figure.
pub struct Figure {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its name in the table, unit included.
    pub label: &'static str,
    /// Digits behind the point in the table.
    pub decimals: usize,
    /// Whether a ratio of two runs says something.
    pub comparable: bool,
    /// What was measured.
    pub value: f64,
}

/// One part of a scenario, and what was measured in it.
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Phase {
    /// One without figures yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }

    /// Adds a figure of which runs are compared.
    pub fn add(&mut self, key: &'static str, label: &'static str, decimals: usize, value: f64) {
        self.figures.push(Figure { key, label, decimals, comparable: true, value });
    }

    /// Adds a figure that stands for itself.
    pub fn note(&mut self, key: &'static str, label: &'static str, decimals: usize, value: f64) {
        self.figures.push(Figure { key, label, decimals, comparable: false, value });
    }
}

/// What came out for one target.
pub struct Run {
    /// The target's name.
    pub name: &'static str,
    /// What was measured, in order.
    pub phases: Vec<Phase>,
    /// What should not have happened, in words.
    pub faults: Vec<String>,
    /// What is worth saying, and no fault.
    pub remarks: Vec<String>,
}
