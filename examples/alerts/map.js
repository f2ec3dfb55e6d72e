// A map without tiles: outlines of land, a grid, markers and circles, in one SVG. Mercator; nothing is fetched.

import { near, nearBox, world } from './land.js';

const SVG = 'http://www.w3.org/2000/svg';
const EARTH_KM = 6371;
const MAX_LAT = 84;
const MIN_SCALE = 1.6;
const MAX_SCALE = 40000;
const STEPS = [45, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005];
const GRID_PX = 90;

const radians = (degrees) => (degrees * Math.PI) / 180;
const degrees = (angle) => (angle * 180) / Math.PI;
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

/** Latitude on the map, in units in which a degree of longitude is 1; south is down. */
const north = (lat) => degrees(Math.log(Math.tan(Math.PI / 4 + radians(clamp(lat, -MAX_LAT, MAX_LAT)) / 2)));
const latOf = (y) => degrees(2 * Math.atan(Math.exp(radians(y))) - Math.PI / 2);

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Severities differ in shape, not in color alone. */
const SHAPES = {
  critical: ['M-4.2-10h8.4l5.8 5.8v8.4l-5.8 5.8h-8.4l-5.8-5.8v-8.4z', 'M0-5v6M0 5v.1'],
  high: ['M0-10.5L10.5 8.5h-21z', 'M0-3v5M0 5.5v.1'],
  medium: ['M-8-8h16v16h-16z', 'M0-4v4M0 4v.1'],
  low: ['M-8.5 0a8.5 8.5 0 1017 0a8.5 8.5 0 10-17 0', 'M0-4v.1M0 0v4'],
  me: ['M-7 0a7 7 0 1014 0a7 7 0 10-14 0', ''],
};

/** The sign of a severity, or of oneself, around 0,0. */
export function mark(kind) {
  const [shape, sign] = SHAPES[kind] || SHAPES.low;
  return node('g', { class: 'mark', 'data-severity': kind === 'me' ? null : kind }, node('path', { d: shape }), node('path', { class: 'sign', d: sign }));
}

const ring = (numbers, unit) => {
  let path = '';
  for (let i = 0; i < numbers.length; i += 2) path += `${i ? 'L' : 'M'}${numbers[i] / unit} ${(-north(numbers[i + 1] / unit)).toFixed(4)}`;
  return `${path}Z`;
};

/** Points at a great-circle distance. */
function circle({ lat, lon, radius_km: km }) {
  const points = [];
  const angle = km / EARTH_KM;
  for (let i = 0; i < 72; i++) {
    const bearing = (i / 72) * 2 * Math.PI;
    const sin = Math.sin(radians(lat)) * Math.cos(angle) + Math.cos(radians(lat)) * Math.sin(angle) * Math.cos(bearing);
    const to = Math.asin(clamp(sin, -1, 1));
    const turn = Math.atan2(Math.sin(bearing) * Math.sin(angle) * Math.cos(radians(lat)), Math.cos(angle) - Math.sin(radians(lat)) * sin);
    points.push([lon + degrees(turn), degrees(to)]);
  }
  return points;
}

const written = (value, step, positive, negative) => {
  const digits = step >= 1 ? 0 : Math.min(3, Math.ceil(-Math.log10(step)));
  const side = value > 1e-9 ? positive : value < -1e-9 ? negative : '';
  return `${Math.abs(value).toFixed(digits)}°${side ? ` ${side}` : ''}`;
};

/** Latitude and longitude for people. */
export const place = ({ lat, lon }) => `${Math.abs(lat).toFixed(3)}° ${lat < 0 ? 'S' : 'N'}, ${Math.abs(lon).toFixed(3)}° ${lon < 0 ? 'W' : 'E'}`;

export class MapView extends EventTarget {
  #svg;
  #land;
  #grid;
  #areas;
  #markers;
  #middle;
  #center = { lat: 38.72, lon: -9.14 };
  #scale = 420;
  #things = [];
  #me = null;
  #selected = null;
  #pointers = new Map();

  constructor(svg) {
    super();
    this.#svg = svg;
    const [west, south, east, top] = nearBox;
    const box = { x: west, y: -north(top), width: east - west, height: north(top) - north(south) };
    this.#land = node('g', { class: 'land' },
      node('path', { id: 'land-world', d: world.map((numbers) => ring(numbers, 10)).join('') }),
      // Whoever looks across the date line sees the other side.
      node('use', { href: '#land-world', x: 360 }),
      node('use', { href: '#land-world', x: -360 }),
      node('rect', { ...box, class: 'sea' }),
      node('path', { d: near.map((numbers) => ring(numbers, 1000)).join(''), 'stroke-linejoin': 'round' }));
    this.#grid = node('g', { class: 'grid', 'aria-hidden': 'true' });
    this.#areas = node('g', { 'aria-hidden': 'true' });
    this.#middle = node('path', { class: 'middle', 'aria-hidden': 'true' });
    this.#markers = node('g', {});
    svg.append(node('g', { 'aria-hidden': 'true' }, this.#land), this.#grid, this.#areas, this.#middle, this.#markers);
    new ResizeObserver(() => this.#draw()).observe(svg);
    this.#listen();
  }

  get center() {
    return { ...this.#center };
  }

  /** What is on the map: `{ id, severity, label, location: { lat, lon, radius_km? } }`. */
  show(things, selected) {
    this.#things = things;
    this.#selected = selected;
    this.#draw();
  }

  set me(position) {
    this.#me = position;
    this.#draw();
  }

  goTo({ lat, lon, radius_km: km }) {
    this.#center = { lat, lon };
    if (km) {
      const perKm = 360 / (2 * Math.PI * EARTH_KM) / Math.cos(radians(lat));
      const size = Math.min(...this.#size()) || 400;
      this.#scale = clamp(size / 2.6 / (km * perKm), MIN_SCALE, MAX_SCALE);
    } else if (this.#scale < 150) {
      this.#scale = 420;
    }
    this.#draw();
  }

  /** All of it, with a margin. */
  fit() {
    const points = this.#things.flatMap(({ location }) => (location.radius_km ? circle(location) : [[location.lon, location.lat]]));
    if (this.#me) points.push([this.#me.lon, this.#me.lat]);
    if (!points.length) return;
    const xs = points.map(([lon]) => lon);
    const ys = points.map(([, lat]) => north(lat));
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const [width, height] = this.#size();
    this.#center = { lon: (left + right) / 2, lat: latOf((low + high) / 2) };
    const scale = Math.min((width - 130) / Math.max(right - left, 0.05), (height - 190) / Math.max(high - low, 0.05));
    this.#scale = clamp(Math.min(scale, 1500), MIN_SCALE, MAX_SCALE);
    this.#draw();
  }

  zoom(factor, x, y) {
    const [width, height] = this.#size();
    const [dx, dy] = [(x ?? width / 2) - width / 2, (y ?? height / 2) - height / 2];
    const before = this.#scale;
    this.#scale = clamp(before * factor, MIN_SCALE, MAX_SCALE);
    const kept = 1 / before - 1 / this.#scale;
    this.#moveBy(dx * kept, dy * kept);
  }

  pan(dx, dy) {
    this.#moveBy(dx / this.#scale, dy / this.#scale);
  }

  #moveBy(x, y) {
    const lon = this.#center.lon + x;
    this.#center = { lon: lon > 180 ? lon - 360 : lon < -180 ? lon + 360 : lon, lat: clamp(latOf(north(this.#center.lat) - y), -MAX_LAT, MAX_LAT) };
    this.#draw();
  }

  #size() {
    return [this.#svg.clientWidth, this.#svg.clientHeight];
  }

  #project(lon, lat) {
    const [width, height] = this.#size();
    let away = lon - this.#center.lon;
    if (away > 180) away -= 360;
    if (away < -180) away += 360;
    return [width / 2 + away * this.#scale, height / 2 - (north(lat) - north(this.#center.lat)) * this.#scale];
  }

  #draw() {
    const [width, height] = this.#size();
    if (!width || !height) return;
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const k = this.#scale;
    this.#land.setAttribute('transform', `translate(${width / 2 - this.#center.lon * k} ${height / 2 + north(this.#center.lat) * k}) scale(${k})`);
    this.#middle.setAttribute('d', `M${width / 2 - 7} ${height / 2}h14M${width / 2} ${height / 2 - 7}v14`);
    this.#drawGrid(width, height);
    const areas = this.#things.filter(({ location }) => location.radius_km).map(({ severity, location }) => {
      const d = circle(location).map(([lon, lat], i) => `${i ? 'L' : 'M'}${this.#project(lon, lat).map((n) => n.toFixed(1)).join(' ')}`).join('');
      return node('path', { class: 'area', 'data-severity': severity, d: `${d}Z` });
    });
    this.#areas.replaceChildren(...areas);
    const focused = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.marker;
    const markers = this.#things.map((thing) => this.#marker(thing));
    if (this.#me) {
      const [x, y] = this.#project(this.#me.lon, this.#me.lat);
      markers.unshift(node('g', { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, role: 'img', 'aria-label': `You: ${place(this.#me)}`, class: 'me' }, mark('me')));
    }
    this.#markers.replaceChildren(...markers);
    const again = focused && this.#markers.querySelector(`[data-marker="${CSS.escape(focused)}"]`);
    if (again) again.focus({ preventScroll: true });
  }

  #marker({ id, severity, label, location }) {
    const [x, y] = this.#project(location.lon, location.lat);
    const made = node('g', { class: 'marker', transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, role: 'button', tabindex: 0, 'aria-label': label, 'data-marker': id, 'aria-current': id === this.#selected ? 'true' : null },
      node('circle', { class: 'ring', r: 16 }), mark(severity), node('title', {}, label));
    const choose = () => this.dispatchEvent(new CustomEvent('choose', { detail: id }));
    made.addEventListener('click', choose);
    made.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      choose();
    });
    return made;
  }

  #drawGrid(width, height) {
    const step = STEPS.findLast((one) => one * this.#scale >= GRID_PX) || STEPS[0];
    const lines = [];
    const from = this.#center.lon - width / 2 / this.#scale;
    const to = this.#center.lon + width / 2 / this.#scale;
    for (let lon = Math.ceil(from / step) * step; lon <= to; lon += step) {
      const x = Math.round(width / 2 + (lon - this.#center.lon) * this.#scale) + 0.5;
      lines.push(node('path', { d: `M${x} 0V${height}` }), node('text', { x: x + 4, y: 14 }, written(((lon + 540) % 360) - 180, step, 'E', 'W')));
    }
    const middle = north(this.#center.lat);
    const bottom = latOf(middle - height / 2 / this.#scale);
    const top = latOf(middle + height / 2 / this.#scale);
    for (let lat = Math.ceil(bottom / step) * step; lat <= top; lat += step) {
      const y = Math.round(height / 2 - (north(lat) - middle) * this.#scale) + 0.5;
      if (Math.abs(lat) <= MAX_LAT) lines.push(node('path', { d: `M0 ${y}H${width}` }), node('text', { x: 6, y: y - 4 }, written(lat, step, 'N', 'S')));
    }
    this.#grid.replaceChildren(...lines);
  }

  #listen() {
    const svg = this.#svg;
    const keys = {
      ArrowLeft: () => this.pan(-60, 0), ArrowRight: () => this.pan(60, 0), ArrowUp: () => this.pan(0, -60), ArrowDown: () => this.pan(0, 60),
      '+': () => this.zoom(1.5), '=': () => this.zoom(1.5), '-': () => this.zoom(1 / 1.5), 0: () => this.fit(),
    };
    svg.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    svg.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-clamp(event.deltaY, -200, 200) / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    svg.addEventListener('pointerdown', (event) => {
      if (event.target.closest('.marker')) return;
      svg.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, event);
    });
    svg.addEventListener('pointermove', (event) => {
      const before = this.#pointers.get(event.pointerId);
      if (!before) return;
      const other = [...this.#pointers.values()].find((one) => one.pointerId !== event.pointerId);
      if (other) {
        const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        this.zoom(far(event) / Math.max(far(before), 1));
      } else {
        this.pan(before.clientX - event.clientX, before.clientY - event.clientY);
      }
      this.#pointers.set(event.pointerId, event);
    });
    for (const type of ['pointerup', 'pointercancel', 'lostpointercapture']) svg.addEventListener(type, (event) => this.#pointers.delete(event.pointerId));
  }
}
