// A transparent page: people and nothing else, for OBS's browser source.
import { Pictures } from './picture.js';

const rows = Number(new URLSearchParams(location.search).get('rows')) || undefined;
new Pictures(document.getElementById('picture'), { view: 'cutout', rows });
