'use strict';
// Sorts, filters and turns the pages of an item table. The numbers are in the
// page as JSON; nothing is loaded, and texts are set as texts.
for (const root of document.querySelectorAll('[data-items]')) {
  const data = JSON.parse(root.querySelector('script').textContent);
  const body = root.querySelector('tbody');
  const status = root.querySelector('[role=status]');
  const inputs = [...root.querySelectorAll('[data-column]')];
  const heads = [...root.querySelectorAll('th button')];
  const size = 25;
  let order = { column: data.first, down: true };
  let start = 0;

  const passes = (row) => inputs.every((input) => {
    if (input.value === '') return true;
    const value = row[input.dataset.column];
    const bound = Number(input.value);
    if (value === null) return false;
    switch (input.dataset.kind) {
      case 'least': return value >= bound;
      case 'most': return value <= bound;
      default: return String(value) === input.value;
    }
  });
  const compare = (a, b) => {
    const [x, y] = [a[order.column], b[order.column]];
    if (x === null || y === null) return (x === null) - (y === null);
    const sign = (x > y) - (x < y);
    return order.down ? -sign : sign;
  };
  const text = (value, k) => {
    if (value === null) return '–';
    if (data.exact[k]) return String(value);
    const digits = { maximumSignificantDigits: 3 };
    if (Math.abs(value) === Number.MAX_VALUE) value *= 2; // to infinity
    return value.toLocaleString('en', digits).replace('-', '−');
  };
  const picture = (row) => {
    const cell = document.createElement('td');
    const place = data.pictures.indexOf(row[0]);
    if (place >= 0) {
      const { width, height, columns } = data.tile;
      const tile = document.createElement('div');
      tile.className = 'tile';
      tile.setAttribute('role', 'img');
      tile.setAttribute('aria-label', `item ${row[0]}`);
      tile.style.width = `${width}px`;
      tile.style.height = `${height}px`;
      const x = (place % columns) * width;
      const y = Math.floor(place / columns) * height;
      tile.style.backgroundPosition = `-${x}px -${y}px`;
      tile.style.backgroundImage = `url(${root.querySelector('img').src})`;
      cell.append(tile);
    }
    return cell;
  };
  const show = () => {
    const rows = data.rows.filter(passes).sort(compare);
    start = Math.max(0, Math.min(start, rows.length - 1));
    start -= start % size;
    body.replaceChildren(...rows.slice(start, start + size).map((row) => {
      const line = document.createElement('tr');
      row.forEach((value, k) => {
        const cell = document.createElement(k ? 'td' : 'th');
        if (!k) cell.scope = 'row';
        cell.className = 'number';
        cell.textContent = text(value, k);
        line.append(cell);
      });
      // Beside the name, where it shows on a telephone too.
      if (data.tile) line.firstChild.after(picture(row));
      return line;
    }));
    const last = Math.min(start + size, rows.length);
    const count = rows.length.toLocaleString('en');
    status.textContent = rows.length
      ? `${start + 1} to ${last} of ${count} items` : 'No such item.';
    heads.forEach((head, k) => {
      const sort = order.down ? 'descending' : 'ascending';
      const value = k === order.column ? sort : 'none';
      head.closest('th').setAttribute('aria-sort', value);
    });
  };
  heads.forEach((head, k) => head.addEventListener('click', () => {
    order = { column: k, down: k === order.column ? !order.down : true };
    start = 0;
    show();
  }));
  inputs.forEach((input) => input.addEventListener('input', () => {
    start = 0;
    show();
  }));
  root.querySelectorAll('[data-turn]').forEach((button) => {
    button.addEventListener('click', () => {
      start += Number(button.dataset.turn) * size;
      show();
    });
  });
  root.hidden = false;
  show();
}
