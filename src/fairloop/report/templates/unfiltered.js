// What the figures ask of the table of cells, on a page that has none: nothing is filtered.
const cells = [], form = element("form");
function fitting() { return cells; }
function wantedFields() { return new Map(); }
