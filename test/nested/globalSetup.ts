/** The images that all level 1s share are made once, before the tests. */
import { level1Images } from './contents.js';

export default function setup(): void {
  level1Images();
}
