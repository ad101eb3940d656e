// SPDX-License-Identifier: GPL-3.0-or-later
// The charts and tables of the report. All text from hosts reaches the page as textContent, never as markup.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const HOUR = 3600, DAY = 24 * HOUR, ROWS = 50, ROWS_IN_PRINT = 2000;
  const CONDITIONS = ["critical", "warning", "failed", "unreachable", "unasked", "ok"];
  const CONDITION_NAMES = {
    critical: "Critical", warning: "Warning", failed: "Not examined", unreachable: "Unreachable", unasked: "Not asked", ok: "Healthy",
  };
  const STATE_NAMES = { paired: "Linked", pending: "Pairing", fresh: "Not linked", corrupt: "Damaged", unknown: "Unknown" };
  const EVENT_NAMES = { migrated: "Accounts migrated", started: "Backend started", failed: "Backend failed", displaced: "Accounts replaced" };
  const KINDS = Object.keys(EVENT_NAMES);
  const EVENT_COLOURS = { migrated: "pending", started: "ok", failed: "critical", displaced: "warning" };
  const SEVERITIES = ["critical", "high", "medium", "low"];
  const SEVERITY_COLOURS = { critical: "critical", high: "critical", medium: "warning", low: "unasked" };

  // The order of the fields is that of plugins/plugin_utils/_report_page.py.
  const fields = (names) => Object.fromEntries(names.map((name, number) => [name, number]));
  const H = fields(data.fields.hosts), A = fields(data.fields.accounts), F = fields(data.fields.findings), E = fields(data.fields.events);
  const taken = data.taken;

  // --- Small tools ---

  const colour = (name) => `var(--${name})`;
  const number = new Intl.NumberFormat("en").format;
  const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

  function node(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made && key !== "role") made[key] = value; else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  function shape(name, attributes = {}, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "fill" || key === "stroke") made.style[key] = value; else made.setAttribute(key, value);
    }
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function size(bytes) {
    if (bytes === null) return "";
    let value = Math.abs(bytes), unit = 0;
    while (value >= 1000 && unit < 5) { value /= 1000; unit += 1; }
    const digits = unit && value < 100 ? 1 : 0;
    return `${bytes < 0 ? "−" : ""}${value.toFixed(digits)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
  }
  const signed = (bytes) => (bytes === null ? "" : bytes > 0 ? `+${size(bytes)}` : size(bytes));

  function age(seconds) {
    if (seconds === null) return "none";
    if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
    if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
    if (seconds < 36 * HOUR) return `${Math.round(seconds / HOUR)} h`;
    return `${Math.round(seconds / DAY)} d`;
  }
  const date = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");

  function label(text, kind) {
    return node("span", { className: `label ${kind}` }, swatch(kind), text);
  }
  function swatch(kind) {
    const made = node("span", { className: "swatch", "aria-hidden": "true" });
    made.style.background = colour(kind);
    return made;
  }

  function counts(rows, key) {
    const found = new Map();
    for (const row of rows) found.set(row[key], (found.get(row[key]) || 0) + 1);
    return found;
  }

  // --- Theme ---

  const choices = [...document.querySelectorAll("[data-theme-choice]")];
  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
    for (const button of choices) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
  }
  function remembered(theme) {
    try { // a page that was opened as a file may have no storage
      if (theme) localStorage.setItem("theme", theme);
      return localStorage.getItem("theme") || "auto";
    } catch { return theme || "auto"; }
  }
  for (const button of choices) button.addEventListener("click", () => setTheme(remembered(button.dataset.themeChoice)));
  setTheme(remembered());

  // --- Charts ---

  function chart(id, width, height, description) {
    const drawn = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
    document.getElementById(id).append(drawn);
    return drawn;
  }

  function legend(id, entries) {
    const list = node("ul", { className: "legend" });
    for (const [kind, name, count] of entries) {
      list.append(node("li", {}, swatch(kind), `${name} `, node("b", { textContent: number(count) })));
    }
    document.getElementById(id).append(list);
  }

  function drawHosts() {
    const figure = document.getElementById("chart-hosts"), found = counts(data.hosts, H.condition);
    const order = data.hosts.map((_host, index) => index).sort((one, other) => data.hosts[one][H.condition] - data.hosts[other][H.condition]);
    const present = CONDITIONS.filter((_name, kind) => found.has(kind));
    const buttons = node("ul", { className: "legend" });
    for (const name of present) {
      const button = node("button", { type: "button" }, swatch(name), CONDITION_NAMES[name], node("b", { textContent: number(found.get(CONDITIONS.indexOf(name))) }));
      button.addEventListener("click", () => { show("hosts", { choice: String(CONDITIONS.indexOf(name)) }); });
      buttons.append(node("li", {}, button));
    }
    const tip = node("span", { className: "tip", "aria-hidden": "true" });
    figure.firstElementChild.append(tip);
    const drawn = chart("chart-hosts", 10, 10, `${plural(data.hosts.length, "host")}: ${present.map((name) => `${number(found.get(CONDITIONS.indexOf(name)))} ${CONDITION_NAMES[name].toLowerCase()}`).join(", ")}`);
    drawn.classList.add("map");
    figure.append(buttons);
    let columns = 1, step = 1;
    function draw() {
      const width = Math.max(200, drawn.clientWidth);
      step = data.hosts.length > 4000 ? 7 : data.hosts.length > 800 ? 10 : data.hosts.length > 150 ? 14 : 22;
      columns = Math.max(1, Math.floor((width + 2) / step));
      const rows = Math.ceil(order.length / columns), side = step - (step > 10 ? 3 : 2);
      drawn.setAttribute("viewBox", `0 0 ${width} ${Math.max(1, rows * step)}`);
      const paths = CONDITIONS.map(() => []);
      order.forEach((host, place) => {
        const x = (place % columns) * step, y = Math.floor(place / columns) * step;
        paths[data.hosts[host][H.condition]].push(`M${x} ${y}h${side}v${side}h-${side}z`);
      });
      drawn.replaceChildren(...CONDITIONS.map((name, kind) => shape("path", { d: paths[kind].join(""), fill: colour(name) })));
    }
    function hostAt(event) {
      const box = drawn.getBoundingClientRect(), x = Math.floor((event.clientX - box.left) / step), y = Math.floor((event.clientY - box.top) / step);
      return x >= 0 && x < columns ? order[y * columns + x] : undefined;
    }
    drawn.addEventListener("pointermove", (event) => {
      const host = data.hosts[hostAt(event)];
      tip.textContent = host ? `${host[H.host]}: ${host[H.reasons][0] || CONDITION_NAMES[CONDITIONS[host[H.condition]]].toLowerCase()}` : "";
    });
    drawn.addEventListener("click", (event) => { const host = hostAt(event); if (host !== undefined) detail(host); });
    new ResizeObserver(draw).observe(figure);
    draw();
  }

  function drawStates() {
    const found = counts(data.accounts, A.state), total = data.accounts.length;
    const present = data.states.map((name, kind) => [name, STATE_NAMES[name] || name, found.get(kind) || 0]).filter((entry) => entry[2]);
    const drawn = chart("chart-states", 320, 130, present.map(([, name, count]) => `${name}: ${number(count)}`).join(", ") || "No accounts");
    const radius = 52, round = 2 * Math.PI * radius;
    let from = 0;
    for (const [kind, , count] of present) {
      const part = (count / total) * round, gap = present.length > 1 ? Math.min(2, part / 3) : 0;
      drawn.append(shape("circle", {
        cx: 160, cy: 65, r: radius, fill: "none", stroke: colour(kind), "stroke-width": 18, transform: "rotate(-90 160 65)",
        "stroke-dasharray": `${part - gap} ${round - part + gap}`, "stroke-dashoffset": -from,
      }));
      from += part;
    }
    const middle = shape("text", { x: 160, y: 67, "text-anchor": "middle", class: "strong" }, number(total));
    middle.style.fontSize = total > 99999 ? "17px" : "22px";
    drawn.append(middle, shape("text", { x: 160, y: 83, "text-anchor": "middle" }, total === 1 ? "account" : "accounts"));
    legend("chart-states", present);
  }

  function drawBackups() {
    const limits = [[HOUR, "1 h"], [6 * HOUR, "6 h"], [DAY, "1 d"], [2 * DAY, "2 d"], [7 * DAY, "7 d"], [Infinity, "older"]];
    const found = new Array(limits.length + 1).fill(0);
    for (const account of data.accounts) {
      if (data.linked.includes(account[A.state])) {
        const old = account[A.backup];
        found[old === null ? limits.length : limits.findIndex(([limit]) => old < limit)] += 1;
      }
    }
    const names = [...limits.map(([limit, name]) => (limit === Infinity ? name : `< ${name}`)), "none"];
    const drawn = chart("chart-backups", 320, 170, names.map((name, kind) => `${name}: ${plural(found[kind], "account")}`).join(", "));
    const most = Math.max(1, ...found), step = 320 / found.length;
    found.forEach((count, kind) => {
      const height = count ? Math.max(3, (count / most) * 112) : 0, x = kind * step, begin = kind ? limits[kind - 1][0] : 0;
      const late = kind === limits.length || (data.maxAge && begin >= data.maxAge);
      drawn.append(shape("rect", { x: x + 5, y: 140 - height, width: step - 10, height, rx: 3, fill: colour(late ? (kind === limits.length ? "critical" : "warning") : "ok") }));
      if (count) drawn.append(shape("text", { x: x + step / 2, y: 133 - height, "text-anchor": "middle", class: "strong" }, number(count)));
      drawn.append(shape("text", { x: x + step / 2, y: 158, "text-anchor": "middle" }, names[kind]));
    });
    drawn.append(shape("line", { x1: 0, x2: 320, y1: 140.5, y2: 140.5, class: "rule" }));
  }

  function drawGrowth() {
    const trend = data.trend, last = trend[trend.length - 1], before = trend[trend.length - 2];
    const words = before ? `${plural(trend.length, "report")} since ${date(trend[0][0]).slice(0, 10)}` : "The next report shows how it grows.";
    const drawn = chart("chart-growth", 320, 150, `${size(last[3])} now. ${words}`);
    if (before) {
      const highest = Math.max(1, ...trend.map((run) => run[3])), begin = trend[0][0], span = Math.max(1, last[0] - begin);
      const places = trend.map((run) => [((run[0] - begin) / span) * 316 + 2, 128 - (run[3] / highest) * 108]);
      const line = places.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
      const area = shape("path", { d: `${line}L${places[places.length - 1][0]} 128L2 128z`, fill: colour("ok"), "fill-opacity": ".16" });
      drawn.append(area, shape("path", { d: line, fill: "none", stroke: colour("ok"), "stroke-width": 2, "stroke-linejoin": "round" }));
      const [x, y] = places[places.length - 1];
      drawn.append(shape("circle", { cx: x, cy: y, r: 3.5, fill: colour("ok") }));
      drawn.append(shape("text", { x: 0, y: 146 }, date(begin).slice(0, 10)), shape("text", { x: 320, y: 146, "text-anchor": "end" }, date(last[0]).slice(0, 10)));
      drawn.append(shape("text", { x: 0, y: 10 }, size(highest)));
    } else {
      const middle = shape("text", { x: 160, y: 78, "text-anchor": "middle", class: "strong" }, size(last[3]));
      middle.style.fontSize = "24px";
      drawn.append(middle);
    }
    drawn.append(shape("line", { x1: 0, x2: 320, y1: 128.5, y2: 128.5, class: "rule" }));
    document.getElementById("chart-growth").append(node("p", { className: "tip", textContent: words }));
  }

  function drawEvents() {
    const days = Math.max(1, Math.ceil(data.days));
    const perDay = KINDS.map(() => new Array(days).fill(0)), total = KINDS.map(() => 0);
    for (const event of data.events) {
      const day = days - 1 - Math.floor((taken - event[E.time]) / DAY);
      if (day >= 0 && day < days) { perDay[event[E.kind]][day] += 1; total[event[E.kind]] += 1; }
    }
    const figure = document.getElementById("chart-events");
    figure.firstElementChild.textContent = `Last ${plural(days, "day")}`;
    const drawn = chart("chart-events", 10, 10, KINDS.map((kind, index) => `${EVENT_NAMES[kind]}: ${number(total[index])} times`).join(", "));
    function draw() {
      const width = Math.max(240, drawn.clientWidth), left = width < 500 ? 0 : 150, lane = left ? 36 : 52, right = 46, step = (width - left - right) / days;
      drawn.setAttribute("viewBox", `0 0 ${width} ${KINDS.length * lane + 20}`);
      drawn.replaceChildren();
      KINDS.forEach((kind, index) => {
        const base = (index + 1) * lane - 4, most = Math.max(1, ...perDay[index]);
        drawn.append(shape("line", { x1: left, x2: width - right, y1: base + .5, y2: base + .5, class: "rule" }));
        drawn.append(shape("text", left ? { x: 0, y: base - 6 } : { x: 0, y: base - 32 }, EVENT_NAMES[kind]));
        drawn.append(shape("text", { x: width, y: base - 6, "text-anchor": "end", class: "strong" }, number(total[index])));
        perDay[index].forEach((count, day) => {
          if (!count) return;
          const height = 5 + (count / most) * 21, x = left + day * step;
          const bar = shape("rect", { x: x + step * .15, y: base - height, width: Math.min(14, step * .7), height, rx: 2, fill: colour(EVENT_COLOURS[kind]) });
          bar.append(shape("title", {}, `${date(taken - (days - 1 - day) * DAY).slice(0, 10)}: ${EVENT_NAMES[kind].toLowerCase()}, ${plural(count, "time")}`));
          drawn.append(bar);
        });
      });
      const bottom = KINDS.length * lane + 14;
      drawn.append(shape("text", { x: left, y: bottom }, date(taken - (days - 1) * DAY).slice(0, 10)), shape("text", { x: width - right, y: bottom, "text-anchor": "end" }, date(taken).slice(0, 10)));
    }
    new ResizeObserver(draw).observe(figure);
    draw();
  }

  // --- Tables ---

  function hostLink(index) {
    const button = node("button", { type: "button", className: "link", textContent: data.hosts[index][H.host] });
    button.addEventListener("click", () => detail(index));
    return button;
  }
  const backendText = (host) => (host[H.backend] === null ? "" : data.backends[host[H.backend]]);

  // A column: its title, the value to sort by, what a cell shows (the value if omitted), and its class. The first one heads the row.
  const TABLES = {
    hosts: {
      rows: data.hosts, caption: "Hosts", empty: "No host matches.",
      choices: [["", "All conditions"], ...CONDITIONS.map((name, kind) => [String(kind), CONDITION_NAMES[name]])],
      chosen: (host, choice) => host[H.condition] === Number(choice),
      text: (host) => [host[H.host], host[H.unit], host[H.layout], backendText(host), ...host[H.reasons]],
      sort: [1, true],
      columns: [
        ["Host", (host) => host[H.host], (_host, index) => hostLink(index), "name"],
        ["Condition", (host) => host[H.condition], (host) => label(CONDITION_NAMES[CONDITIONS[host[H.condition]]], CONDITIONS[host[H.condition]])],
        ["Why", (host) => host[H.reasons][0] || "", (host) => (host[H.reasons][0] || "") + (host[H.reasons].length > 1 ? ` (+${host[H.reasons].length - 1})` : ""), "text"],
        ["Linked", (host) => host[H.linked], (host) => (host[H.total] === null ? "" : `${number(host[H.linked])} / ${number(host[H.total])}`), "number"],
        ["Backend", backendText],
        ["Oldest backup", (host) => (host[H.total] === null ? -1 : host[H.backup] === null ? Infinity : host[H.backup]), (host) => (host[H.linked] ? age(host[H.backup]) : ""), "number"],
        ["Size", (host) => host[H.bytes], (host) => size(host[H.bytes]), "number"],
        ["Growth", (host) => host[H.growth], (host) => signed(host[H.growth]), "number"],
      ],
    },
    accounts: {
      rows: data.accounts, caption: "Accounts", empty: "No account matches.",
      choices: [["", "All states"], ...data.states.map((name, kind) => [String(kind), STATE_NAMES[name] || name])],
      chosen: (account, choice) => account[A.state] === Number(choice),
      text: (account) => [account[A.id], data.hosts[account[A.host]][H.host], account[A.problems]],
      sort: [2, true],
      columns: [
        ["Account", (account) => account[A.id], null, "name"],
        ["Host", (account) => data.hosts[account[A.host]][H.host], (account) => hostLink(account[A.host]), "name"],
        ["State", (account) => -account[A.state], (account) => label(STATE_NAMES[data.states[account[A.state]]] || data.states[account[A.state]], data.states[account[A.state]])],
        ["Problems", (account) => account[A.problems], null, "text"],
        ["Newest backup", (account) => (account[A.backup] === null ? Infinity : account[A.backup]), (account) => age(account[A.backup]), "number"],
        ["Last written", (account) => account[A.newest], (account) => date(account[A.newest])],
        ["Files", (account) => account[A.files], (account) => (account[A.files] === null ? "" : number(account[A.files])), "number"],
        ["Size", (account) => account[A.bytes], (account) => size(account[A.bytes]), "number"],
        ["Growth", (account) => account[A.growth], (account) => signed(account[A.growth]), "number"],
      ],
    },
    findings: {
      rows: data.findings, caption: "Findings", empty: "No finding matches.",
      choices: [["", "All severities"], ...SEVERITIES.map((name, kind) => [String(kind), name[0].toUpperCase() + name.slice(1)])],
      chosen: (finding, choice) => finding[F.severity] === Number(choice),
      text: (finding) => [data.hosts[finding[F.host]][H.host], finding[F.title], finding[F.where], finding[F.evidence], finding[F.remedy]],
      sort: [1, true],
      columns: [
        ["Host", (finding) => data.hosts[finding[F.host]][H.host], (finding) => hostLink(finding[F.host]), "name"],
        ["Severity", (finding) => finding[F.severity], (finding) => label(SEVERITIES[finding[F.severity]] || "", SEVERITY_COLOURS[SEVERITIES[finding[F.severity]]])],
        ["Finding", (finding) => finding[F.title], null, "text"],
        ["Where", (finding) => finding[F.where], null, "text"],
        ["Evidence", (finding) => finding[F.evidence], null, "text"],
        ["What to do", (finding) => finding[F.remedy], null, "text"],
      ],
    },
  };

  const view = { name: "hosts", choice: "", search: "", page: 0, sort: TABLES.hosts.sort, rows: [], shown: ROWS };
  const [search, choice, table, back, next] = ["search", "choice", "table-panel", "back", "next"].map((id) => document.getElementById(id));
  const [head, body] = [table.querySelector("thead"), table.querySelector("tbody")];
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const compare = new Intl.Collator("en", { numeric: true }).compare;

  function ordered(rows, [column, up]) {
    const value = TABLES[view.name].columns[column][1], keys = new Map();
    for (const row of rows) keys.set(row, value(TABLES[view.name].rows[row]));
    const order = up ? 1 : -1;
    return rows.sort((one, other) => {
      const a = keys.get(one), b = keys.get(other);
      if (a === b) return one - other;
      if (a === null || b === null) return a === null ? 1 : -1; // without a value: last in both directions
      return order * (typeof a === "string" ? compare(a, b) : a - b);
    });
  }

  function select() {
    const kind = TABLES[view.name], words = view.search.toLowerCase().split(/\s+/).filter(Boolean), rows = [];
    kind.rows.forEach((row, index) => {
      if (view.choice !== "" && !kind.chosen(row, view.choice)) return;
      if (words.length) {
        const text = kind.text(row).join(" ").toLowerCase();
        if (!words.every((word) => text.includes(word))) return;
      }
      rows.push(index);
    });
    view.rows = ordered(rows, view.sort);
    view.page = 0;
    draw();
  }

  function heading(column, index) {
    const button = node("button", { type: "button", textContent: column[0] });
    const cell = node("th", { scope: "col", className: column[3] === "number" ? "number" : "" }, button);
    button.addEventListener("click", () => {
      view.sort = [index, view.sort[0] === index ? !view.sort[1] : column[3] !== "number"];
      view.page = 0;
      ordered(view.rows, view.sort);
      draw();
      head.querySelectorAll("button")[index].focus();
    });
    if (view.sort[0] === index) cell.setAttribute("aria-sort", view.sort[1] ? "ascending" : "descending");
    return cell;
  }

  function line(index) {
    const kind = TABLES[view.name], row = kind.rows[index];
    return node("tr", {}, ...kind.columns.map(([, value, shown, className = ""], column) => {
      const content = shown ? shown(row, index) : value(row);
      const cell = node(column ? "td" : "th", { className }, content ?? "");
      if (!column) cell.scope = "row";
      if (className === "name") cell.title = cell.textContent;
      return cell;
    }));
  }

  function draw() {
    const kind = TABLES[view.name], from = view.page * view.shown, shown = view.rows.slice(from, from + view.shown);
    head.replaceChildren(node("tr", {}, ...kind.columns.map(heading)));
    const empty = node("tr", {}, node("td", { colSpan: kind.columns.length, className: "empty", textContent: kind.rows.length ? kind.empty : "None." }));
    body.replaceChildren(...(shown.length ? shown.map(line) : [empty]));
    table.querySelector("caption").textContent = kind.caption;
    document.getElementById("count").textContent = shown.length ? `${number(from + 1)} to ${number(from + shown.length)} of ${number(view.rows.length)}` : "0 rows";
    back.disabled = !view.page;
    next.disabled = from + view.shown >= view.rows.length;
  }

  function show(name, { choice: chosen = "", search: words = "" } = {}) {
    Object.assign(view, { name, choice: chosen, search: words, sort: [...TABLES[name].sort] });
    for (const tab of tabs) {
      const current = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(current));
      tab.tabIndex = current ? 0 : -1;
    }
    table.setAttribute("aria-labelledby", `tab-${name}`);
    choice.replaceChildren(...TABLES[name].choices.map(([value, text]) => node("option", { value, textContent: text, selected: value === chosen })));
    search.value = words;
    select();
  }

  for (const tab of tabs) {
    tab.append(" ", node("span", { className: "muted", textContent: number(TABLES[tab.id.slice(4)].rows.length) }));
    tab.addEventListener("click", () => show(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      const other = tabs[(tabs.indexOf(tab) + way + tabs.length) % tabs.length];
      show(other.id.slice(4));
      other.focus();
    });
  }
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { view.search = search.value; select(); }, 120);
  });
  choice.addEventListener("change", () => { view.choice = choice.value; select(); });
  back.addEventListener("click", () => { view.page -= 1; draw(); });
  next.addEventListener("click", () => { view.page += 1; draw(); });
  addEventListener("beforeprint", () => { Object.assign(view, { shown: ROWS_IN_PRINT, page: 0 }); draw(); });
  addEventListener("afterprint", () => { view.shown = ROWS; draw(); });

  // --- One host ---

  const dialog = document.getElementById("detail");
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  function detail(index) {
    const host = data.hosts[index], kind = CONDITIONS[host[H.condition]], content = [label(CONDITION_NAMES[kind], kind)];
    if (host[H.reasons].length) content.push(node("ul", {}, ...host[H.reasons].map((reason) => node("li", { textContent: reason }))));
    if (host[H.total] !== null) {
      const known = [
        ["Backend", [host[H.unit], backendText(host)].filter(Boolean).join(", ")],
        ["Started", host[H.since] === null ? "" : `${date(host[H.since])} UTC`],
        ["Sessions path", host[H.path]], ["Layout", host[H.layout]],
        ["Accounts", `${number(host[H.linked])} of ${number(host[H.total])} linked`],
        ["Size", `${size(host[H.bytes])}${host[H.growth] === null ? "" : `, ${signed(host[H.growth])} since the last report`}`],
        ["Oldest backup", host[H.linked] ? age(host[H.backup]) : ""], ["In progress", host[H.progress]],
      ];
      content.push(node("dl", {}, ...known.filter(([, text]) => text).flatMap(([name, text]) => [node("dt", { textContent: name }), node("dd", { textContent: text })])));
      const button = node("button", { type: "button", textContent: "Show its accounts" });
      button.addEventListener("click", () => {
        dialog.close();
        show("accounts", { search: host[H.host] });
        document.getElementById("tables").focus();
      });
      content.push(button);
    }
    const findings = data.findings.filter((finding) => finding[F.host] === index);
    if (findings.length) {
      content.push(node("h3", { textContent: "Findings" }), node("ul", {}, ...findings.map((finding) => node("li", { textContent: `${finding[F.title]} (${SEVERITIES[finding[F.severity]]}): ${finding[F.remedy]}` }))));
    }
    const events = data.events.filter((event) => event[E.host] === index).slice(-12).reverse();
    if (events.length) {
      content.push(node("h3", { textContent: "Latest events" }), node("ul", {}, ...events.map((event) => node("li", { textContent: `${date(event[E.time])} ${EVENT_NAMES[KINDS[event[E.kind]]]}${event[E.accounts] ? ` (${plural(event[E.accounts], "account")})` : ""}` }))));
    }
    document.getElementById("detail-title").textContent = host[H.host];
    document.getElementById("detail-body").replaceChildren(...content);
    dialog.showModal();
  }

  for (const id of ["charts", "tables"]) document.getElementById(id).hidden = false;
  for (const part of [drawHosts, drawStates, drawBackups, drawGrowth, drawEvents]) part();
  show("hosts");
})();
